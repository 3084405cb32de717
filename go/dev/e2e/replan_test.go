//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/dev/internal/githost"
)

// In these the server plans whoever is next by itself.
var (
	plansSled   = mode{name: "plans-sled", answers: "strict", settings: withQueueOnSled("auto")}
	plansNative = mode{name: "plans-native", answers: "native", redis: true, settings: withQueue("native", "auto")}
	plansHybrid = mode{name: "plans-hybrid", answers: "hybrid", redis: true, settings: withQueue("hybrid", "auto")}
	tellsSled   = mode{name: "tells-sled", answers: "strict", settings: withQueueOnSled("notify")}
)

const (
	nextInQueue = "**This pull request is next in queue. It is planned automatically when its turn comes.**"
	secondIn    = "**This pull request is 2nd in queue, behind #%d. It is planned automatically when its turn comes.**"
)

// line is three pull requests that want one lock: the first has it, the others wait in this order.
type line struct {
	*repository
	first, second, third int
}

func newLine(t *testing.T, w *world, name string, changes ...map[string]string) line {
	t.Helper()
	r := w.repository(t, name)
	l := line{repository: r}
	for i, num := range []*int{&l.first, &l.second, &l.third} {
		files := r.change([]string{"network"})
		if i < len(changes) {
			maps.Copy(files, changes[i])
		}
		pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "a change", files)
		if err != nil {
			t.Fatal(err)
		}
		*num = pull.Number
		comment := r.commentAfter(t, pull.Number, 0)
		switch i {
		case 0:
			wantText(t, comment, planned)
		case 1:
			wantText(t, comment, refusedBy(l.first), nextInQueue)
		case 2:
			wantText(t, comment, refusedBy(l.first), fmt.Sprintf(secondIn, l.second))
		}
	}
	return l
}

// last is the newest comment of a pull request.
func (r *repository) last(t *testing.T, number int) int64 {
	t.Helper()
	pull, err := r.host.Pull(r.name, number)
	if err != nil {
		t.Fatal(err)
	}
	return lastComment(pull)
}

// wantPlannedByItself lets something happen, and fails unless the pull request is planned then without a person.
func (r *repository) wantPlannedByItself(t *testing.T, number int, happens func()) {
	t.Helper()
	last := r.last(t, number)
	happens()
	begun := time.Now()
	comment := r.commentAfter(t, number, last)
	t.Logf("the plan's comment came after %v", time.Since(begun).Round(time.Millisecond))
	wantText(t, comment, planned)
	wantNoText(t, comment, "currently locked")
}

// TestWhoeverIsNextIsPlanned: three pull requests want one lock, and nobody comments `atlantis plan`.
func TestWhoeverIsNextIsPlanned(t *testing.T) {
	scenes := map[string]func(*testing.T, *world, string){
		"merge":         mergeHandsOver,
		"unlock":        unlockAndDiscardHandOver,
		"push":          aPushKeepsThePlace,
		"closed":        whoeverIsClosedIsPassed,
		"fails":         aPlanThatFailsIsPassed,
		"plans it has":  plansThatItHasStay,
		"other command": aPlanByHandIsNotRepeated,
	}
	for _, mode := range []mode{plansSled, plansNative, plansHybrid} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			for i, name := range slices.Sorted(maps.Keys(scenes)) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					scenes[name](t, w, fmt.Sprintf("acme/scene-%d", i))
				})
			}
		})
	}
}

func mergeHandsOver(t *testing.T, w *world, name string) {
	l := newLine(t, w, name)
	l.wantPlannedByItself(t, l.second, func() { l.merge(t, l.first) })
	l.wantHolders(t, map[string]int{"network": l.second})
	wantText(t, l.command(t, l.second, "atlantis apply"), applied)
	l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.second) })
	l.wantHolders(t, map[string]int{"network": l.third})
	if comments := l.waitFor(t, l.third, "the pull request", func(githost.Pull) bool { return true }).Comments; len(comments) != 2 {
		t.Errorf("the refusal and the plan are enough: %+v", comments)
	}
}

func unlockAndDiscardHandOver(t *testing.T, w *world, name string) {
	l := newLine(t, w, name)
	l.wantPlannedByItself(t, l.second, func() { wantUnlocked(t, l.command(t, l.first, "atlantis unlock")) })
	l.wantPlannedByItself(t, l.third, func() {
		if err := l.server.Discard(t.Context(), l.name+"/network/default"); err != nil {
			if err := l.server.Discard(t.Context(), l.key("network")); err != nil {
				t.Fatal(err)
			}
		}
	})
	l.wantHolders(t, map[string]int{"network": l.third})
}

func aPushKeepsThePlace(t *testing.T, w *world, name string) {
	l := newLine(t, w, name)
	wantText(t, l.push(t, l.first, "network"), planned) // who holds the lock keeps it
	l.wantHolders(t, map[string]int{"network": l.first})
	wantText(t, l.push(t, l.second, "network"), refusedBy(l.first), nextInQueue)
	l.wantPlannedByItself(t, l.second, func() { l.merge(t, l.first) })
	l.wantHolders(t, map[string]int{"network": l.second})
}

func whoeverIsClosedIsPassed(t *testing.T, w *world, name string) {
	l := newLine(t, w, name)
	if _, err := l.host.ClosePull(t.Context(), l.name, l.second); err != nil {
		t.Fatal(err)
	}
	last := l.last(t, l.second)
	l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.first) })
	if l.last(t, l.second) != last {
		t.Error("a closed pull request was commented on")
	}
}

func aPlanThatFailsIsPassed(t *testing.T, w *world, name string) {
	l := newLine(t, w, name, nil, map[string]string{"network/fails.tf": "# plan fails\n"})
	last := l.last(t, l.second)
	l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.first) })
	wantText(t, l.commentAfter(t, l.second, last), "**Plan Error**")
	l.wantHolders(t, map[string]int{"network": l.third})
}

// plansThatItHasStay: only what got free is planned, and the plan of the other project can still be applied.
func plansThatItHasStay(t *testing.T, w *world, name string) {
	r := w.repository(t, name)
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	second, comment := r.open(t, "network", "app")
	wantText(t, comment, planned, refusedBy(first))
	r.wantPlannedByItself(t, second, func() { r.merge(t, first) })
	r.wantHolders(t, map[string]int{"network": second, "app": second})
	answer := r.command(t, second, "atlantis apply")
	if got := strings.Count(answer, applied); got != 2 {
		t.Errorf("%d projects were applied, and not both:\n%s", got, answer)
	}
}

// aPlanByHandIsNotRepeated: somebody plans in the moment in which the server is about to.
func aPlanByHandIsNotRepeated(t *testing.T, w *world, name string) {
	l := newLine(t, w, name)
	last := l.last(t, l.second)
	l.merge(t, l.first)
	wantText(t, l.command(t, l.second, "atlantis plan"), planned)
	time.Sleep(4 * time.Second) // longer than further locks are waited for
	if plans := l.plansAfter(t, l.second, last); plans != 1 {
		t.Errorf("it was planned %d times", plans)
	}
}

// plansAfter counts the plans of a pull request after that comment.
func (r *repository) plansAfter(t *testing.T, number int, last int64) (plans int) {
	t.Helper()
	for _, comment := range r.pull(t, number).Comments {
		if comment.ID > last && strings.Contains(comment.Body, planned) {
			plans++
		}
	}
	return plans
}

// TestAKilledServerHandsOver kills the server with kill -9: before a release, between the release and the plan, and in the plan.
func TestAKilledServerHandsOver(t *testing.T) {
	for _, mode := range []mode{plansSled, plansNative, plansHybrid} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			t.Run("waiting", func(t *testing.T) {
				l := newLine(t, w, "acme/waiting")
				// Atlantis comments before its command is over. A command that a kill cuts off counts as running for a minute more.
				time.Sleep(time.Second)
				w.server.Kill()
				w.restart(t)
				l.wantPlannedByItself(t, l.second, func() { l.merge(t, l.first) })
				l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.second) })
			})
			t.Run("in between", func(t *testing.T) {
				l := newLine(t, w, "acme/between")
				last := l.last(t, l.second)
				l.wantPlannedByItself(t, l.second, func() {
					l.merge(t, l.first)
					l.eventuallyReserved(t, "network", l.second)
					w.server.Kill()
					w.restart(t)
				})
				l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.second) })
				if plans := l.plansAfter(t, l.second, last); plans != 1 {
					t.Errorf("it was planned %d times", plans)
				}
			})
			t.Run("in the plan", func(t *testing.T) {
				slow := newSlow(t)
				l := newLine(t, w, "acme/plan", nil, map[string]string{"network/slow.tf": slow.line()})
				l.merge(t, l.first)
				l.waitForRunning(t, slow)
				w.server.Kill()
				w.restart(t)
				l.wantHolders(t, map[string]int{"network": l.second}) // as a crash in any plan
				slow.end(t)
				wantText(t, l.command(t, l.second, "atlantis plan"), planned)
				l.wantPlannedByItself(t, l.third, func() { l.merge(t, l.second) })
			})
		})
	}
}

// TestRedisFailsWhilePeopleWait: with hybrid mode the order survives a Redis that is away, one that hangs, and one that is empty.
func TestRedisFailsWhilePeopleWait(t *testing.T) {
	w := newWorld(t, plansHybrid)
	away, hung, emptied := newLine(t, w, "acme/away"), newLine(t, w, "acme/hung"), newLine(t, w, "acme/emptied")
	w.redis.Shutdown()
	away.wantPlannedByItself(t, away.second, func() { away.merge(t, away.first) })
	w.redis.Restart(t)
	w.eventuallyOnRedis(t)
	away.wantPlannedByItself(t, away.third, func() { away.merge(t, away.second) })
	w.redis.Pause(t)
	hung.wantPlannedByItself(t, hung.second, func() { hung.merge(t, hung.first) })
	w.redis.Resume(t)
	w.eventuallyOnRedis(t)
	hung.wantPlannedByItself(t, hung.third, func() { hung.merge(t, hung.second) })
	ask(t, w.redis.Addr, func(client *redis.Client) error { return client.FlushAll(t.Context()).Err() })
	emptied.wantPlannedByItself(t, emptied.second, func() { emptied.merge(t, emptied.first) })
	emptied.wantPlannedByItself(t, emptied.third, func() { emptied.merge(t, emptied.second) })
}

// eventuallyOnRedis waits until Redis decides again.
func (w *world) eventuallyOnRedis(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
		code, body, err := w.server.Get(t.Context(), "/api/locks/compatibility/status")
		var status struct {
			FallbackActive *bool `json:"fallback_active"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(body), &status)
		}
		if err == nil && code == http.StatusOK && status.FallbackActive != nil && !*status.FallbackActive {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Redis does not decide again: %d %s %v", code, body, err)
		}
	}
}

// TestPeopleAreToldThatItIsTheirTurn: with replan: notify a person plans.
func TestPeopleAreToldThatItIsTheirTurn(t *testing.T) {
	r := newWorld(t, tellsSled).repository(t, "acme/infra")
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	second, comment := r.open(t, "network")
	wantText(t, comment, "You will be told here when it is your turn; then comment `atlantis plan` within 30 minutes.")
	last := r.last(t, second)
	r.merge(t, first)
	wantText(t, r.commentAfter(t, second, last), "**It is this pull request's turn:** `network` is kept for it until ", "To plan, comment `atlantis plan`.")
	_, comment = r.open(t, "network")
	wantText(t, comment, fmt.Sprintf("The lock is free, and kept for #%d, whose turn it is.", second))
	wantText(t, r.command(t, second, "atlantis plan"), planned)
	r.wantHolders(t, map[string]int{"network": second})
}
