//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

// TestFreezes: nobody takes what is frozen, nobody applies it, and who has it keeps it; after the thaw all goes on.
func TestFreezes(t *testing.T) {
	t.Parallel()
	for _, mode := range []mode{plansSled, plansHybrid} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mode)
			for name, scene := range map[string]func(*testing.T, *repository){
				"plan": aFrozenProjectIsNotPlanned, "apply": aFrozenProjectIsNotApplied, "applies only": onlyAppliesAreFrozen,
				"turn": aTurnComesAfterTheThaw,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					scene(t, w.repository(t, "acme/"+strings.ReplaceAll(name, " ", "-")))
				})
			}
		})
	}
}

// aFrozenProjectIsNotPlanned is about a freeze from the command line.
func aFrozenProjectIsNotPlanned(t *testing.T, r *repository) {
	r.run(t, "freeze", r.name, "--path", "network", "--reason", "incident 1231", "--owner", "ada", "--until", "2h")
	first, comment := r.open(t, "network", "app")
	wantText(t, comment, planned, "This project is frozen, and nobody can lock it now: ", " is frozen by ada until ", ": incident 1231",
		"Once the freeze is over, comment `atlantis plan` here to plan.")
	r.wantHolders(t, map[string]int{"app": first})
	explained := r.explainKey(t, r.key("network"))
	if explained.State != atlock.StateFrozen || explained.BlockedBy[0].Who != "ada" {
		t.Errorf("it is explained as %+v", explained)
	}
	id := r.freezes(t)[0].ID
	wantText(t, explained.FreesIt[0], "wait until ", ", or end the freeze "+id)
	wantText(t, r.run(t, "explain", r.key("network")), "incident 1231", "end the freeze "+id)
	r.run(t, "thaw", id)
	wantText(t, r.command(t, first, "atlantis plan -d network"), planned)
	r.wantHolders(t, map[string]int{"app": first, "network": first})
}

// aFrozenProjectIsNotApplied is about a freeze by HTTP, which comes after the plan.
func aFrozenProjectIsNotApplied(t *testing.T, r *repository) {
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	id := r.freeze(t, "")
	r.wantHolders(t, map[string]int{"network": first})
	_, comment = r.open(t, "network")
	wantText(t, comment, refusedBy(first), nextInQueue) // who waits behind the holder waits as ever
	answer := r.command(t, first, "atlantis apply")
	wantText(t, answer, "**Apply Failed**", "This project is frozen, and nothing was applied: the lock is frozen by ada until that is ended: incident 1231")
	wantNoText(t, answer, applied)
	r.wantFreedBy(t, "network", "end the freeze "+id)
	wantText(t, r.command(t, first, "atlantis plan"), planned) // the holder has its lock
	r.thaw(t, id)
	wantText(t, r.command(t, first, "atlantis apply"), applied)
}

func onlyAppliesAreFrozen(t *testing.T, r *repository) {
	id := r.freeze(t, atlock.FreezePlansAllow)
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	answer := r.command(t, first, "atlantis apply")
	wantText(t, answer, "applies are frozen by ada until that is ended: incident 1231; plans are not")
	wantNoText(t, answer, applied)
	r.wantFreedBy(t, "network", "end the freeze "+id)
	r.thaw(t, id)
	wantText(t, r.command(t, first, "atlantis apply"), applied)
}

// aTurnComesAfterTheThaw: what gets free in a freeze is nobody's turn, and the next one is planned by itself when it is thawed.
func aTurnComesAfterTheThaw(t *testing.T, r *repository) {
	first, comment := r.open(t, "network")
	wantText(t, comment, planned)
	second, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(first), nextInQueue)
	id := r.freeze(t, "")
	last := r.last(t, second)
	r.merge(t, first)
	r.eventuallyHolders(t, map[string]int{})
	time.Sleep(6 * time.Second) // longer than the server looks at its queues
	if r.last(t, second) != last {
		t.Fatalf("it was planned in a freeze: %+v", r.pull(t, second))
	}
	r.wantFreedBy(t, "network", "end the freeze "+id)
	r.wantPlannedByItself(t, second, func() { r.thaw(t, id) })
}

// freeze freezes network by HTTP.
func (r *repository) freeze(t *testing.T, plans string) (id string) {
	t.Helper()
	asked, err := json.Marshal(atlock.FreezeRequest{
		Pattern: atlock.FreezePattern{Repo: r.name, Path: "network"}, Reason: "incident 1231", Owner: "ada", OpenEnded: true, Plans: plans,
	})
	if err != nil {
		t.Fatal(err)
	}
	code, body, err := r.server.Call(t.Context(), http.MethodPost, "/api/locks/freezes", string(asked))
	var made atlock.Freeze
	if err == nil {
		err = json.Unmarshal([]byte(body), &made)
	}
	if err != nil || code != http.StatusOK || made.ID == "" {
		t.Fatalf("freeze: %d %s %v", code, body, err)
	}
	return made.ID
}

func (r *repository) thaw(t *testing.T, id string) {
	t.Helper()
	if code, body, err := r.server.Call(t.Context(), http.MethodDelete, "/api/locks/freezes?id="+url.QueryEscape(id), ""); err != nil || code != http.StatusOK {
		t.Fatalf("thaw: %d %s %v", code, body, err)
	}
}

// freezes are those of this repository.
func (r *repository) freezes(t *testing.T) (of []atlock.Freeze) {
	t.Helper()
	var all []atlock.Freeze
	r.getJSON(t, "/api/locks/freezes", &all)
	for _, freeze := range all {
		if freeze.Pattern.Repo == r.name {
			of = append(of, freeze)
		}
	}
	if len(of) != 1 {
		t.Fatalf("the freezes of %s: %+v", r.name, of)
	}
	return of
}

// run runs the program atlock with the server's settings, and returns what it prints.
func (w *world) run(t *testing.T, arguments ...string) string {
	t.Helper()
	settings, err := filepath.Glob(filepath.Join(w.folder, "*.yaml"))
	if err != nil || len(settings) != 1 {
		t.Fatalf("the settings are in %v: %v", settings, err)
	}
	output, err := exec.CommandContext(t.Context(), commandLine(t), append([]string{"--config", settings[0]}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("atlock %v: %w: %s", arguments, err, output))
	}
	return string(output)
}
