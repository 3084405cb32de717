//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/atlock"
)

// key is the key of the lock of a project in this repository.
func (r *repository) key(project string) string { return keyIn(r.name, project) }

func quoted(text string) string { return strconv.Quote(text) }

func number(pull int) string { return fmt.Sprintf("#%d", pull) }

// getJSON reads what the server answers to a GET.
func (w *world) getJSON(t *testing.T, path string, into any) {
	t.Helper()
	code, body, err := w.server.Get(t.Context(), path)
	if err == nil && code == http.StatusOK {
		err = json.Unmarshal([]byte(body), into)
	}
	if err != nil || code != http.StatusOK {
		t.Fatalf("GET %s: %d %s %v", path, code, body, err)
	}
}

// explainKey asks why a lock is as it is.
func (w *world) explainKey(t *testing.T, key string) atlock.Explained {
	t.Helper()
	var explained []atlock.Explained
	w.getJSON(t, "/api/locks/explain?id="+url.QueryEscape(key), &explained)
	if len(explained) != 1 || explained[0].Key != key {
		t.Fatalf("%s is explained as %+v", key, explained)
	}
	return explained[0]
}

// discard releases the lock of a project as the page's button does.
func (r *repository) discard(t *testing.T, project string) {
	t.Helper()
	if err := r.server.Discard(t.Context(), r.key(project)); err != nil {
		t.Fatal(err)
	}
}

// wantFreedBy fails unless explain says that this frees the lock of the project.
func (r *repository) wantFreedBy(t *testing.T, project, sentence string) {
	t.Helper()
	if explained := r.explainKey(t, r.key(project)); !slices.Contains(explained.FreesIt, sentence) {
		t.Fatalf("explain does not say %q: %+v", sentence, explained)
	}
}

// refusals are what people are refused on a server on which they plan, and what explain says to do.
var refusals = map[string]func(*testing.T, *repository){
	"merge": func(t *testing.T, r *repository) {
		first, second := r.refused(t)
		r.wantFreedBy(t, "network", fmt.Sprintf("merge or close pull #%d", first))
		r.merge(t, first)
		r.eventuallyReserved(t, "network", second)
		r.wantFreedBy(t, "network", fmt.Sprintf("plan pull #%d: comment `atlantis plan` there; it is next", second))
		wantText(t, r.command(t, second, "atlantis plan"), planned)
	},
	"unlock": func(t *testing.T, r *repository) {
		first, second := r.refused(t)
		r.wantFreedBy(t, "network", fmt.Sprintf("comment `atlantis unlock` in #%d, if nothing of it is applied: its plans are lost", first))
		wantUnlocked(t, r.command(t, first, "atlantis unlock"))
		wantText(t, r.command(t, second, "atlantis plan"), planned)
	},
	"discard": func(t *testing.T, r *repository) {
		_, second := r.refused(t)
		r.wantFreedBy(t, "network", "discard the lock "+quoted(r.key("network"))+" alone on Atlantis's page")
		r.discard(t, "network")
		wantText(t, r.command(t, second, "atlantis plan"), planned)
	},
	"kept for another": func(t *testing.T, r *repository) {
		first, second := r.refused(t)
		r.merge(t, first)
		r.eventuallyReserved(t, "network", second)
		third, comment := r.open(t, "network")
		wantText(t, comment, refusedBy(second), fmt.Sprintf("The lock is free, and kept for #%d, whose turn it is.", second))
		explained := r.explainKey(t, r.key("network"))
		if explained.State != atlock.StateReserved || explained.BlockedBy[0].Who != number(second) {
			t.Errorf("it is explained as %+v", explained)
		}
		r.wantFreedBy(t, "network", fmt.Sprintf("comment `atlantis unlock` in #%d: it leaves the queue, and the next one has its turn", second))
		r.command(t, second, "atlantis unlock")
		wantText(t, r.command(t, third, "atlantis plan"), planned)
	},
	"a plan runs": func(t *testing.T, r *repository) {
		slow := newSlow(t)
		files := r.change([]string{"network"})
		files["network/slow.tf"] = slow.line() + "# plan fails\n"
		first, err := r.host.OpenPull(t.Context(), r.name, "ann", "a slow change", files)
		if err != nil {
			t.Fatal(err)
		}
		r.waitForRunning(t, slow)
		second, comment := r.open(t, "network")
		wantText(t, comment, refusedBy(first.Number))
		r.wantFreedBy(t, "network", fmt.Sprintf("wait: a plan of #%d runs now, and may give the lock up at its end", first.Number))
		slow.end(t)
		wantText(t, r.commentAfter(t, first.Number, 0), "**Plan Error**")
		r.eventuallyReserved(t, "network", second)
		wantText(t, r.command(t, second, "atlantis plan"), planned)
	},
	"no lock": func(t *testing.T, r *repository) { // the guard's refusal of a plan whose lock was given up
		first, comment := r.open(t, "network")
		wantText(t, comment, planned)
		r.run(t, "unlock-pull", r.name, strconv.Itoa(first))
		r.eventuallyHolders(t, map[string]int{})
		wantText(t, r.command(t, first, "atlantis apply"), "and nobody holds the lock now: nothing was applied")
		r.wantFreedBy(t, "network", "nothing has to be done: the lock is free")
		wantText(t, r.command(t, first, "atlantis plan"), planned)
		wantText(t, r.command(t, first, "atlantis apply"), applied)
	},
	"another's lock": func(t *testing.T, r *repository) { // the guard's refusal where another has the lock
		first, comment := r.open(t, "network")
		wantText(t, comment, planned)
		r.run(t, "unlock-pull", r.name, strconv.Itoa(first))
		second, comment := r.open(t, "network")
		wantText(t, comment, planned)
		wantText(t, r.command(t, first, "atlantis apply"), nothingApplied(second))
		r.wantFreedBy(t, "network", fmt.Sprintf("merge or close pull #%d", second))
		r.merge(t, second)
		r.eventuallyHolders(t, map[string]int{})
		wantText(t, r.command(t, first, "atlantis plan"), planned)
		wantText(t, r.command(t, first, "atlantis apply"), applied)
	},
}

// refused is a pull request that holds a lock, and one that waits for it.
func (r *repository) refused(t *testing.T) (holder, waits int) {
	t.Helper()
	holder, comment := r.open(t, "network")
	wantText(t, comment, planned)
	waits, comment = r.open(t, "network")
	wantText(t, comment, refusedBy(holder))
	return holder, waits
}

// TestExplainResolvesEachRefusal does what explain says, and no more. Other refusals are resolved so where they are shown: freezes, sets, circles,
// the queue's limit, calls of the API.
func TestExplainResolvesEachRefusal(t *testing.T) {
	t.Parallel()
	for _, mode := range []mode{queueSled, queueHybrid} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			for name, scene := range refusals {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					scene(t, w.repository(t, "acme/"+strings.NewReplacer("'", "", " ", "-").Replace(name)))
				})
			}
		})
	}
}
