//go:build e2e

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/dev/internal/githost"
)

// TestScenarios runs what teams do with pull requests, in every mode. Those of the first list run at once on one server, each
// in a repository of its own, unless stock's Redis code answers: its List and UnlockByPull fail when another lock is released
// meanwhile (docs/defects.md). Those of the second change the server for everyone.
func TestScenarios(t *testing.T) {
	shared := []struct {
		name string
		run  func(*testing.T, mode, *repository)
	}{
		{"plan", planTakesTheLock},
		{"autoplan", autoplanTakesLocks},
		{"apply", applyKeepsTheLockUntilMerged},
		{"unlock", unlockReleasesOnePullsLocks},
		{"merge", mergeReleasesTheLocks},
		{"close", closeWithoutMergeKeepsTheLocks},
		{"race", oneOfManyGetsTheLock},
		{"discard", discardOnThePage},
		{"endpoints", endpointsTellTheMode},
	}
	alone := []struct {
		name string
		run  func(*testing.T, *repository)
	}{
		{"apply-lock", globalApplyLock},
		{"restart", restartKeepsTheLocks},
		{"crash", crashInAPlanKeepsTheLock},
	}
	for _, mode := range allModes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			t.Run("shared", func(t *testing.T) {
				for _, scenario := range shared {
					t.Run(scenario.name, func(t *testing.T) {
						if !mode.redisDirectly {
							t.Parallel()
						}
						scenario.run(t, mode, w.repository(t, "acme/"+scenario.name))
					})
				}
			})
			for _, scenario := range alone {
				t.Run(scenario.name, func(t *testing.T) {
					scenario.run(t, w.repository(t, "acme/"+scenario.name))
				})
			}
		})
	}
}

func planTakesTheLock(t *testing.T, _ mode, r *repository) {
	first, second := r.openQuietly(t), r.openQuietly(t)
	r.wantHolders(t, map[string]int{})

	wantText(t, r.command(t, first, "atlantis plan -d network"), planned)
	r.wantHolders(t, map[string]int{"network": first})

	refused := r.command(t, second, "atlantis plan -d network")
	wantText(t, refused, refusedBy(first))
	wantNoText(t, refused, planned)
	r.wantHolders(t, map[string]int{"network": first})

	wantText(t, r.command(t, first, "atlantis plan -d network"), planned) // the holder may plan again
	wantText(t, r.command(t, second, "atlantis plan -d database"), planned)
	r.wantHolders(t, map[string]int{"network": first, "database": second})
}

func autoplanTakesLocks(t *testing.T, _ mode, r *repository) {
	first, comment := r.open(t, "network", "database")
	wantText(t, comment, planned)
	r.wantHolders(t, map[string]int{"network": first, "database": first})

	second, comment := r.open(t, "database", "app")
	wantText(t, comment, refusedBy(first), planned)
	r.wantHolders(t, map[string]int{"network": first, "database": first, "app": second})

	comment = r.push(t, second, "network")
	wantText(t, comment, refusedBy(first))
	r.wantHolders(t, map[string]int{"network": first, "database": first, "app": second})
}

func applyKeepsTheLockUntilMerged(t *testing.T, _ mode, r *repository) {
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	wantText(t, r.command(t, first, "atlantis apply"), applied)
	r.wantHolders(t, map[string]int{"network": first})
	r.waitFor(t, first, "the status atlantis/apply: success", func(p githost.Pull) bool {
		status, ok := p.Status("atlantis/apply")
		return ok && status.State == "success"
	})

	second, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(first))
	r.merge(t, first)
	r.eventuallyHolders(t, map[string]int{})
	wantText(t, r.command(t, second, "atlantis plan"), planned)
	r.wantHolders(t, map[string]int{"network": second})
	wantText(t, r.command(t, second, "atlantis apply -d network"), applied)
}

func unlockReleasesOnePullsLocks(t *testing.T, _ mode, r *repository) {
	first, _ := r.open(t, "network", "database")
	second, _ := r.open(t, "app", "database")
	r.wantHolders(t, map[string]int{"network": first, "database": first, "app": second})

	wantUnlocked(t, r.command(t, first, "atlantis unlock"))
	r.wantHolders(t, map[string]int{"app": second})

	comment := r.command(t, second, "atlantis plan")
	wantText(t, comment, planned)
	wantNoText(t, comment, refusedBy(first))
	r.wantHolders(t, map[string]int{"app": second, "database": second})
}

func mergeReleasesTheLocks(t *testing.T, _ mode, r *repository) {
	first, _ := r.open(t, "network", "database")
	second, _ := r.open(t, "app")
	before, err := r.host.Merge(t.Context(), r.name, first)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, r.commentAfter(t, first, lastComment(before)), "Locks and plans deleted for the projects and workspaces modified in this pull request")
	r.wantHolders(t, map[string]int{"app": second})
}

// closeWithoutMergeKeepsTheLocks: with Gitea, Atlantis takes no notice of a pull request that is closed without a merge.
func closeWithoutMergeKeepsTheLocks(t *testing.T, _ mode, r *repository) {
	first, _ := r.open(t, "network")
	if _, err := r.host.ClosePull(t.Context(), r.name, first); err != nil {
		t.Fatal(err)
	}
	_, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(first))
	r.wantHolders(t, map[string]int{"network": first})
}

// oneOfManyGetsTheLock plans in several pull requests at once that want one lock.
func oneOfManyGetsTheLock(t *testing.T, mode mode, r *repository) {
	const takers = 5
	var numbers []int
	for range takers {
		numbers = append(numbers, r.openQuietly(t))
	}
	var questions []sent
	for _, number := range numbers {
		questions = append(questions, r.send(t, number, "atlantis plan -d network"))
	}
	granted := map[int]bool{}
	refusals := map[int]string{}
	for _, question := range questions {
		answer := r.answer(t, question)
		if strings.Contains(answer, planned) {
			granted[question.number] = true
		} else {
			refusals[question.number] = answer
		}
	}
	if len(granted) == 0 || (len(granted) > 1 && !mode.redisDirectly) {
		t.Fatalf("%d pull requests wanted one lock, and these were granted it: %v", takers, granted)
	}
	holder := r.holders(t)["network"]
	if !granted[holder] {
		t.Fatalf("the lock's holder is #%d, but granted it was to %v", holder, granted)
	}
	for number, refusal := range refusals {
		if !mode.redisDirectly {
			wantText(t, refusal, refusedBy(holder))
		} else if !strings.Contains(refusal, "currently locked by an unapplied plan") {
			t.Fatalf("#%d was neither granted nor refused the lock: %s", number, refusal)
		}
	}
}

// globalApplyLock disables applying for everyone, as the page's button does, and enables it again.
func globalApplyLock(t *testing.T, r *repository) {
	number, _ := r.open(t, "network")
	r.disableApply(t)
	wantText(t, r.command(t, number, "atlantis apply"), disabled)
	r.stop(t)
	r.restart(t)
	wantText(t, r.command(t, number, "atlantis apply"), disabled)
	r.enableApply(t)
	wantText(t, r.command(t, number, "atlantis apply"), applied)
}

func (w *world) disableApply(t *testing.T) { w.wantOK(t, http.MethodPost, "/apply/lock") }

func (w *world) enableApply(t *testing.T) { w.wantOK(t, http.MethodDelete, "/apply/unlock") }

// wantOK sends a request to the server, and fails unless it says that all is well.
func (w *world) wantOK(t *testing.T, method, path string) {
	t.Helper()
	if code, body, err := w.server.Do(t.Context(), method, path, nil); err != nil || code != http.StatusOK {
		t.Fatalf("%s %s: %d %s %v", method, path, code, body, err)
	}
}

func restartKeepsTheLocks(t *testing.T, r *repository) {
	first, _ := r.open(t, "network", "database")
	before := r.lockNames(t)
	r.stop(t)
	r.restart(t)
	if after := r.lockNames(t); after != before {
		t.Fatalf("locks before the restart:\n%s\nand after:\n%s", before, after)
	}
	second, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(first))
	wantUnlocked(t, r.command(t, first, "atlantis unlock"))
	wantText(t, r.command(t, second, "atlantis plan"), planned)
	r.wantHolders(t, map[string]int{"network": second})
}

// crashInAPlanKeepsTheLock kills the server while terraform runs: the lock was granted, so it stays, with the same holder.
func crashInAPlanKeepsTheLock(t *testing.T, r *repository) {
	busyFile := filepath.Join(t.TempDir(), "busy") // terraform, which outlives its server, ends when this is removed
	if err := os.WriteFile(busyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "a slow change", map[string]string{
		"network/slow.tf": "# plan takes as long as there is " + busyFile + "\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	r.eventuallyHolders(t, map[string]int{"network": pull.Number})
	r.server.Kill()
	r.restart(t)
	r.wantHolders(t, map[string]int{"network": pull.Number})
	second, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(pull.Number))
	wantUnlocked(t, r.command(t, pull.Number, "atlantis unlock"))
	wantText(t, r.command(t, second, "atlantis plan"), planned)
}
