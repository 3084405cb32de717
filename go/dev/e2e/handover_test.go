//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/dev/internal/githost"
	"github.com/atlock/atlock/go/internal/freeport"
)

// These are as those of modes_test.go, with a queue: people plan.
var (
	queueSled   = mode{name: "queue-sled", answers: "strict", settings: withQueueOnSled("off")}
	queueNative = mode{name: "queue-native", answers: "native", redis: true, settings: withQueue("native", "off")}
	queueHybrid = mode{name: "queue-hybrid", answers: "hybrid", redis: true, settings: withQueue("hybrid", "off")}
)

// In these the guard is set against what it is without a setting.
var (
	guardedBolt = mode{name: "guarded-boltdb", boltDirectly: true, answers: "strict",
		settings: file("locking: {backend: boltdb, enhanced: {apply_guard: on}}\n")}
	unguardedHybrid = mode{name: "unguarded-hybrid", answers: "hybrid", redis: true, settings: func(w *world) ([]string, string) {
		flags, content := enhanced("sled", "hybrid")(w)
		return flags, content + "    apply_guard: off\n"
	}}
)

func withQueueOnSled(replan string) func(*world) ([]string, string) {
	return func(w *world) ([]string, string) {
		const settings = "locking: {backend: sled, data_dir: %q, enhanced: {priority_queue: {enabled: true, replan: %s}}}\n"
		return nil, fmt.Sprintf(settings, w.lockFolder(), replan)
	}
}

func withQueue(compatibility, replan string) func(*world) ([]string, string) {
	return func(w *world) ([]string, string) {
		flags, content := enhanced("sled", compatibility)(w)
		return flags, content + "    priority_queue: {enabled: true, replan: " + replan + "}\n"
	}
}

// nothingApplied is how the guard refuses where another pull request holds the lock.
func nothingApplied(holder int) string {
	return fmt.Sprintf("This plan's lock was given up since it was made, and pull #%d holds the lock now: nothing was applied.", holder)
}

// TestNobodyAppliesWithoutTheLock goes the ways by which a pull request loses its lock and keeps its plan. With stock Atlantis, both pull
// requests apply. Where the guard is on, only the one that holds the lock does.
func TestNobodyAppliesWithoutTheLock(t *testing.T) {
	for _, c := range []struct {
		mode    mode
		guarded bool
		how     string
		lose    func(*testing.T, *repository) int // the first pull request, which planned and does not hold its lock
	}{
		{stockRedis, false, "by hand", releasedByHand}, {native, true, "by hand", releasedByHand},
		{hybridSled, true, "by hand", releasedByHand}, {queueNative, true, "by hand", releasedByHand},
		{strictSled, true, "command line", releasedByCommandLine}, {queueSled, true, "command line", releasedByCommandLine},
		{stockBolt, false, "unlock", unlockedInMidPlan}, {strictBolt, false, "unlock", unlockedInMidPlan},
		{strictSled, true, "unlock", unlockedInMidPlan}, {queueSled, true, "unlock", unlockedInMidPlan},
		{queueHybrid, true, "unlock", unlockedInMidPlan}, {guardedBolt, true, "unlock", unlockedInMidPlan},
		{unguardedHybrid, false, "by hand", releasedByHand}, {unguardedHybrid, false, "unlock", unlockedInMidPlan},
		{hybridSled, true, "conflict", lostAConflict}, {queueHybrid, true, "conflict", lostAConflict},
	} {
		t.Run(c.how+"/"+c.mode.name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t, c.mode).repository(t, "acme/infra")
			first := c.lose(t, r)
			second, held := r.holders(t)["network"]
			if !held {
				var comment string
				second, comment = r.open(t, "network")
				wantText(t, comment, planned)
			}
			if holder := r.holders(t)["network"]; holder != second || second == first {
				t.Fatalf("#%d holds the lock, and not #%d", holder, second)
			}
			answer := r.command(t, first, "atlantis apply")
			if c.guarded {
				wantText(t, answer, "**Apply Failed**", nothingApplied(second))
				wantNoText(t, answer, applied)
			} else {
				wantText(t, answer, applied)
			}
			answer = r.command(t, second, "atlantis apply")
			wantText(t, answer, applied)
			if c.guarded {
				wantText(t, answer, fmt.Sprintf("Under the lock %s of pull %d, token ", r.key("network"), second))
				if c.how != "conflict" && !c.mode.boltDirectly { // of the other server's lock the token is not known, and BoltDB has none
					wantNoText(t, answer, "token none")
				}
			}
			if c.guarded {
				r.wantFreedBy(t, "network", fmt.Sprintf("merge or close pull #%d", second))
			}
			r.merge(t, second)
			r.eventuallyHolders(t, map[string]int{})
			wantText(t, r.command(t, first, "atlantis plan"), planned) // what the refusal says to do
			wantText(t, r.command(t, first, "atlantis apply"), applied)
		})
	}
}

// releasedByHand removes the lock from Redis.
func releasedByHand(t *testing.T, r *repository) int {
	t.Helper()
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	ask(t, r.redis.Addr, func(client *redis.Client) error {
		if removed, err := client.Del(t.Context(), r.lockInRedis()).Result(); err != nil || removed != 1 {
			return fmt.Errorf("%d locks were removed: %w", removed, err)
		}
		return nil
	})
	return first
}

func (r *repository) lockInRedis() string { return "pr/" + r.key("network") }

// releasedByCommandLine is `atlock unlock-pull`, which deletes no plan.
func releasedByCommandLine(t *testing.T, r *repository) int {
	t.Helper()
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	r.run(t, "unlock-pull", r.name, strconv.Itoa(first))
	r.eventuallyHolders(t, map[string]int{}) // in a plan that has just commented, the release waits for its end
	return first
}

// commandLine is the program atlock: ATLOCK_E2E_CLI, or what the Makefile builds.
func commandLine(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ATLOCK_E2E_CLI")
	if path == "" {
		path = filepath.Join("..", "..", "..", "target", "release", "atlock")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the command line is missing: build it by `make lib`, or name another in ATLOCK_E2E_CLI: %v", err)
	}
	return path
}

// unlockedInMidPlan comments `atlantis unlock` while terraform runs. The plan ends well.
func unlockedInMidPlan(t *testing.T, r *repository) int {
	t.Helper()
	slow := newSlow(t)
	first := r.openSlowly(t, slow, "network")
	r.waitForRunning(t, slow)
	r.wantHolders(t, map[string]int{"network": first})
	wantUnlocked(t, r.command(t, first, "atlantis unlock"))
	r.wantHolders(t, map[string]int{})
	now := r.waitFor(t, first, "the pull request", func(githost.Pull) bool { return true })
	slow.end(t)
	wantText(t, r.commentAfter(t, first, lastComment(now)), planned)
	return first
}

// lostAConflict lets a hybrid server grant a lock while Redis is away, in which another server had granted it to a second pull request.
func lostAConflict(t *testing.T, r *repository) int {
	t.Helper()
	second, comment := r.open(t, "network")
	wantText(t, comment, planned)
	var seconds string
	ask(t, r.redis.Addr, func(client *redis.Client) (err error) {
		seconds, err = client.Get(t.Context(), r.lockInRedis()).Result()
		return err
	})
	wantUnlocked(t, r.command(t, second, "atlantis unlock"))
	wantText(t, r.command(t, second, "atlantis plan -d app"), planned) // a plan that is not network's
	r.redis.Shutdown()
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	r.setBehindItsBack(t, r.lockInRedis(), seconds)
	r.redis.Restart(t)
	r.eventuallyHolders(t, map[string]int{"network": second, "app": second})
	r.eventuallyOnRedis(t)                                                 // until then, behind another server's lock, nobody is granted anything
	wantText(t, r.command(t, second, "atlantis plan -d network"), planned) // instead of the other server's plan
	return first
}

// setBehindItsBack writes into Redis's data while Redis is stopped, as another server would while this one has no connection.
func (w *world) setBehindItsBack(t *testing.T, key, value string) {
	t.Helper()
	port, err := freeport.Take()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	server := exec.CommandContext(ctx, "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", w.redis.Dir,
		"--appendonly", "yes", "--save", "")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for ctx.Err() == nil {
		if connection, err := net.Dial("tcp", address); err == nil {
			_ = connection.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	ask(t, address, func(client *redis.Client) error {
		for client.Ping(ctx).Err() != nil && ctx.Err() == nil { // it is loading
			time.Sleep(10 * time.Millisecond)
		}
		return client.Set(ctx, key, value, 0).Err()
	})
	if err := errors.Join(server.Process.Signal(syscall.SIGTERM), server.Wait()); err != nil {
		t.Fatal(err)
	}
}

// ask asks a Redis something, and leaves no connection that would complain when that Redis ends.
func ask(t *testing.T, address string, question func(*redis.Client) error) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: address})
	defer func() { _ = client.Close() }()
	if err := question(client); err != nil {
		t.Fatal(err)
	}
}

// TestWhatWasAppliedKeepsItsLock: with stock Atlantis, a plan that fails gives the lock of a change away that is applied and not merged.
func TestWhatWasAppliedKeepsItsLock(t *testing.T) {
	for _, c := range []struct {
		mode mode
		kept bool
	}{{stockBolt, false}, {strictBolt, true}, {strictSled, true}, {native, true}, {queueSled, true}, {queueNative, true}} {
		t.Run(c.mode.name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t, c.mode).repository(t, "acme/infra")
			first, comment := r.open(t, "network")
			wantText(t, comment, planned)
			wantText(t, r.command(t, first, "atlantis apply"), applied)
			for i := range 2 {
				wantText(t, r.pushFiles(t, first, map[string]string{fmt.Sprintf("network/fails_%d.tf", i): "# plan fails\n"}), "**Plan Error**")
				if !c.kept {
					r.wantHolders(t, map[string]int{})
					return
				}
				r.wantHolders(t, map[string]int{"network": first})
			}
			_, comment = r.open(t, "network")
			wantText(t, comment, refusedBy(first))
			wantUnlocked(t, r.command(t, first, "atlantis unlock"))
			r.wantHolders(t, map[string]int{})
		})
	}
}

// TestMergedInMidPlan merges a pull request between two of its projects. With stock Atlantis the second one's lock stays for ever.
func TestMergedInMidPlan(t *testing.T) {
	for _, c := range []struct {
		mode mode
		left []string
	}{{stockBolt, []string{"network"}}, {strictSled, nil}, {native, nil}, {queueSled, nil}, {queueHybrid, nil}} {
		t.Run(c.mode.name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t, c.mode).repository(t, "acme/infra")
			slow := newSlow(t)
			first := r.openSlowly(t, slow, "app", "network")
			r.waitForRunning(t, slow)
			r.wantHolders(t, map[string]int{"app": first})
			r.merge(t, first)
			now := r.waitFor(t, first, "the pull request", func(githost.Pull) bool { return true })
			slow.end(t)
			comment := r.commentAfter(t, first, lastComment(now))
			want := map[string]int{}
			for _, project := range c.left {
				want[project] = first
			}
			if len(c.left) == 0 {
				wantText(t, comment, fmt.Sprintf("#%d is closed: a closed pull request takes no new lock", first))
			}
			r.eventuallyHolders(t, want)
		})
	}
}

// TestTheHolderPlansAgain: while the holder plans again, whoever waits does not get its lock, and is told its place.
func TestTheHolderPlansAgain(t *testing.T) {
	for _, mode := range []mode{queueSled, queueNative, queueHybrid} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t, mode).repository(t, "acme/infra")
			first, comment := r.open(t, "app", "network")
			wantText(t, comment, planned)
			second, comment := r.open(t, "network")
			wantText(t, comment, refusedBy(first), "**This pull request is next in queue.** When its turn comes, the lock is kept for it for 30 minutes: comment `atlantis plan` then.",
				"To leave the queue, comment `atlantis unlock`.")
			third, comment := r.open(t, "network")
			wantText(t, comment, fmt.Sprintf("**This pull request is 2nd in queue, behind #%d.", second))

			slow := newSlow(t)
			before := r.waitFor(t, first, "the pull request", func(githost.Pull) bool { return true })
			if _, err := r.host.Push(t.Context(), r.name, first, map[string]string{"app/slow.tf": slow.line()}); err != nil {
				t.Fatal(err)
			}
			r.waitForRunning(t, slow)
			wantText(t, r.command(t, second, "atlantis plan"), refusedBy(first)) // app is planned, network comes after it
			r.wantHolders(t, map[string]int{"app": first, "network": first})
			slow.end(t)
			comment = r.commentAfter(t, first, lastComment(before))
			wantText(t, comment, planned)
			wantNoText(t, comment, "currently locked")

			wantText(t, r.command(t, first, "atlantis plan -d network"), planned)
			r.wantHolders(t, map[string]int{"app": first, "network": first})
			r.merge(t, first)
			r.eventuallyHolders(t, map[string]int{})
			wantText(t, r.command(t, third, "atlantis plan"), refusedBy(second), fmt.Sprintf("The lock is free, and kept for #%d, whose turn it is.", second))
			wantText(t, r.command(t, second, "atlantis plan"), planned)
			r.wantHolders(t, map[string]int{"network": second})
		})
	}
}

// slow is a change whose plan takes as long as a test wants. It is over with the test at the latest: terraform outlives its server.
type slow struct{ file string }

func newSlow(t *testing.T) slow {
	t.Helper()
	s := slow{filepath.Join(t.TempDir(), "busy")}
	if err := os.WriteFile(s.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s slow) line() string { return "# plan takes as long as there is " + s.file + "\n" }

func (s slow) end(t *testing.T) {
	t.Helper()
	if err := os.Remove(s.file); err != nil {
		t.Fatal(err)
	}
}

// openSlowly opens a pull request in which the first of the projects is slow.
func (r *repository) openSlowly(t *testing.T, slow slow, changed ...string) int {
	t.Helper()
	files := r.change(changed)
	files[changed[0]+"/slow.tf"] = slow.line()
	pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "a slow change", files)
	if err != nil {
		t.Fatal(err)
	}
	return pull.Number
}

// waitForRunning waits until terraform plans the slow change.
func (r *repository) waitForRunning(t *testing.T, slow slow) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(slow.file + ".begun"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no plan of the slow change began within %v", answerLimit)
		}
	}
}

// TestAPlanWithoutItsLockIsDiscarded: the command line releases a lock, and cannot discard the plan. The server finds that, within two of its
// looks, which are a minute apart.
func TestAPlanWithoutItsLockIsDiscarded(t *testing.T) {
	t.Parallel()
	r := newWorld(t, strictSled).repository(t, "acme/infra")
	first := releasedByCommandLine(t, r)
	const text = "**The plan of `network` was discarded:**"
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		pull := r.waitFor(t, first, "the pull request", func(githost.Pull) bool { return true })
		if last := pull.Comments[len(pull.Comments)-1].Body; strings.Contains(last, text) {
			wantText(t, last, "nobody holds it now")
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no comment says that the plan was discarded: %+v", pull.Comments)
		}
	}
	wantText(t, r.command(t, first, "atlantis apply"), "Ran Apply for 0 projects")
	wantText(t, r.command(t, first, "atlantis plan"), planned)
	wantText(t, r.command(t, first, "atlantis apply"), applied)
}
