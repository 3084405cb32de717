//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// settingsFile is the one with which the mode of the test was started.
func (w *world) settingsFile() string { return filepath.Join(w.folder, plansHybrid.name+".yaml") }

// changed runs the command that changes the mode of the server.
func (w *world) changed(t *testing.T, words ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), commandLine(t), append([]string{"--config", w.settingsFile()}, words...)...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("atlock %s: %v\n%s", strings.Join(words, " "), err, out)
	}
	return string(out)
}

// TestTheModeChangesWhileItServes: a pull request holds a lock, another waits for it, and the mode changes meanwhile: by command, by signal, and
// in mid-plan. The lock stays, the place too, and the next one is planned by itself. A server that is killed begins in the mode that was changed to.
func TestTheModeChangesWhileItServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plansHybrid)
	r := w.repository(t, "acme/infra")
	holder, comment := r.open(t, "network")
	wantText(t, comment, planned)
	waiting, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(holder))

	wantText(t, w.changed(t, "mode", "native"), "mode      hybrid to native\n", "locks     1 carried over\n")
	wantText(t, w.changed(t, "mode"), "mode      native\n", "hybrid to native: ok")
	_, comment = r.open(t, "network")
	wantText(t, comment, refusedBy(holder))

	slow := newSlow(t)
	third := r.openSlowly(t, slow, "database")
	r.waitForRunning(t, slow)
	wantText(t, w.changed(t, "mode", "strict"), "mode      native to strict\n", "locks     2 carried over\n")
	slow.end(t)
	r.eventuallyHolders(t, map[string]int{"network": holder, "database": third})

	r.wantPlannedByItself(t, waiting, func() { r.merge(t, holder) })
	r.eventuallyHolders(t, map[string]int{"network": waiting, "database": third})

	file := w.settingsFile()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "enabled: false", "enabled: true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(w.server.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(time.Minute); !strings.Contains(w.changed(t, "mode"), "mode      native\n"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("SIGHUP changed nothing")
		}
	}
	r.wantHolders(t, map[string]int{"network": waiting, "database": third})
	w.server.Kill()
	w.restart(t)
	wantText(t, w.changed(t, "mode"), "mode      native\n")
	r.wantHolders(t, map[string]int{"network": waiting, "database": third})
	if _, err := os.Stat(filepath.Join(w.lockFolder(), "atlock-server.sock")); err != nil {
		t.Error(err)
	}
}

// TestAKillDuringAChange kills the server with kill -9 at some moment of a change. It starts again in either mode, the one that its settings file
// names, and with the locks that it had.
func TestAKillDuringAChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plansHybrid)
	r := w.repository(t, "acme/infra")
	holder, comment := r.open(t, "network")
	wantText(t, comment, planned)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 8 {
		mode := []string{"native", "strict", "hybrid"}[round%3]
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			// It fails where the server dies before it has answered.
			_ = exec.CommandContext(t.Context(), commandLine(t), "--config", w.settingsFile(), "mode", mode).Run()
		}()
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		w.server.Kill()
		<-ended
		w.restart(t)
		told := w.changed(t, "mode")
		text, err := os.ReadFile(w.settingsFile())
		if err != nil {
			t.Fatal(err)
		}
		named := "strict"
		if strings.Contains(string(text), "enabled: true\n    compatibility_mode:") {
			_, rest, _ := strings.Cut(string(text), "compatibility_mode: ")
			named, _, _ = strings.Cut(rest, "\n")
		}
		if !strings.HasPrefix(told, "mode      "+named+"\n") {
			t.Fatalf("seed %d, round %d to %s: the file names %s, and the server tells\n%s", seed, round, mode, named, told)
		}
		t.Logf("round %d to %s: %s", round, mode, named)
		r.wantHolders(t, map[string]int{"network": holder})
		_, comment := r.open(t, "network")
		wantText(t, comment, refusedBy(holder))
	}
}

// TestAMigrationBesideARunningServer moves the locks of a server that serves to another store, by the command that is typed where none runs.
func TestAMigrationBesideARunningServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plansHybrid)
	r := w.repository(t, "acme/infra")
	holder, comment := r.open(t, "network")
	wantText(t, comment, planned)
	waiting, _ := r.open(t, "network")

	to := filepath.Join(w.folder, "new.yaml")
	settings := fmt.Sprintf("locking:\n  backend: sled\n  data_dir: %q\n  enhanced: {priority_queue: {enabled: true, replan: auto}}\n",
		filepath.Join(w.folder, "new"))
	if err := os.WriteFile(to, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	words := []string{"migrate", "--from", "config:" + w.settingsFile(), "--to", "config:" + to, "--work", filepath.Join(w.folder, "work")}
	wantText(t, w.changed(t, words...), "phase     planned; nothing was changed: --execute does it\n")
	wantText(t, w.changed(t, "mode"), "mode      hybrid\n")
	wantText(t, w.changed(t, append(words, "--execute")...), "phase     complete\n", "mode      hybrid to strict\n", "locks     1 carried over\n")
	text, err := os.ReadFile(w.settingsFile())
	if err != nil || string(text) != settings {
		t.Fatalf("the settings file is\n%s\n%v", text, err)
	}
	wantText(t, w.changed(t, "mode"), "mode      strict\n", "hybrid to strict: ok")
	w.redis.Kill()
	r.wantHolders(t, map[string]int{"network": holder})
	r.wantPlannedByItself(t, waiting, func() { r.merge(t, holder) })
	w.server.Kill()
	w.restart(t)
	r.wantHolders(t, map[string]int{"network": waiting})
}
