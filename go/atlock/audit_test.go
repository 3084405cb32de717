package atlock_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/atlock"
)

// trailOf are the entries of an audit trail, each in a few words.
func trailOf(t *testing.T, file string) (told []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	for line := range bytes.Lines(text) {
		var entry struct {
			Kind, Operation, Key, Command, User, Via, Store, Request, Detail, Previous string
			Pull                                                                       int
			By, Holder                                                                 struct{ User string }
			Settings                                                                   []string
		}
		must(t, json.Unmarshal(line, &entry))
		if len(entry.Previous) != 64 {
			t.Errorf("no hash: %s", line)
		}
		told = append(told, fmt.Sprintf("%s %s %s%s #%d %s, via %s by %s, of %s", entry.Kind, entry.Operation, entry.Key, entry.Command, entry.Pull,
			entry.User, entry.Via, entry.By.User, entry.Holder.User))
	}
	return told
}

// Atlantis's own store, called directly, leaves the entries that the library's does.
func TestAuditOfAtlantisOwnStore(t *testing.T) {
	entries := map[string][]string{}
	for _, backend := range []string{"boltdb", "sled"} {
		config := settings(backend, "strict", t.TempDir(), "")
		config.Locking.Audit.File = filepath.Join(t.TempDir(), "audit")
		database, err := atlock.Open(config, atlock.WithBoltDB(t.TempDir()))
		must(t, err)
		bob := database.As(atlock.Actor{Via: atlock.ViaPage, By: atlock.Person{User: "bob"}})
		ann := database.As(atlock.Actor{Via: atlock.ViaPlan, By: atlock.Person{User: "ann"}})
		lock := lockOf("a", 1)
		lock.User.Username = "ann"
		other := lockOf("a", 2)
		for range 2 {
			_, _, err = ann.TryLock(lock)
			must(t, err)
		}
		_, _, err = bob.TryLock(other)
		must(t, err)
		_, err = bob.Unlock(lock.Project, "default")
		must(t, err)
		_, err = bob.Unlock(lock.Project, "default")
		must(t, err)
		_, _, err = ann.TryLock(lock)
		must(t, err)
		_, err = database.UnlockIfOwnedByPull(lock.Project, "default", 2)
		must(t, err)
		_, err = database.UnlockIfOwnedByPull(lock.Project, "default", 1)
		must(t, err)
		take(t, database, "b", 3)
		take(t, database, "c", 3)
		_, err = bob.UnlockByPull("acme/infra", 3)
		must(t, err)
		_, err = bob.LockCommand(command.Apply, time.Now())
		must(t, err)
		if _, err = database.LockCommand(command.Apply, time.Now()); err == nil {
			t.Error("it is held")
		}
		must(t, bob.UnlockCommand(command.Apply))
		if err = bob.UnlockCommand(command.Apply); err == nil {
			t.Error("there is none")
		}
		must(t, database.Close())
		entries[backend] = trailOf(t, config.Locking.Audit.File)
	}
	const key = "acme/infra/a/default/"
	expected := []string{
		"grant try_lock " + key + " #1 ann, via plan by ann, of ",
		"refusal try_lock " + key + " #1 ann, via plan by ann, of ann",
		"refusal try_lock " + key + " #2 , via page by bob, of ann",
		"release unlock " + key + " #1 , via page by bob, of ann",
		"grant try_lock " + key + " #1 ann, via plan by ann, of ",
		"release unlock " + key + " #1 , via  by , of ann",
		"grant try_lock acme/infra/b/default/ #3 , via  by , of ",
		"grant try_lock acme/infra/c/default/ #3 , via  by , of ",
		"release unlock_by_pull acme/infra/b/default/ #3 , via page by bob, of ",
		"release unlock_by_pull acme/infra/c/default/ #3 , via page by bob, of ",
		"grant lock_command apply #0 , via page by bob, of ",
		"refusal lock_command apply #0 , via  by , of ",
		"release unlock_command apply #0 , via page by bob, of ",
	}
	for backend, told := range entries {
		if !slices.Equal(told, expected) {
			t.Errorf("%s:\n got %q\nwant %q", backend, told, expected)
		}
	}
}

// With `required`, nothing is changed whose intent cannot be written.
func TestRequiredAuditOfAtlantisOwnStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	config := atlock.Config{Locking: atlock.Locking{Audit: atlock.Audit{File: file, Required: true}}}
	database, err := atlock.Open(config, atlock.WithBoltDB(t.TempDir()))
	must(t, err)
	defer database.Close()
	take(t, database, "a", 1)
	if told := trailOf(t, file); len(told) != 2 || !strings.HasPrefix(told[0], "intent try_lock") || !strings.HasPrefix(told[1], "grant try_lock") {
		t.Errorf("%q", told)
	}
	must(t, os.Remove(file))
	must(t, os.Symlink("/dev/full", file))
	_, _, tryErr := database.TryLock(lockOf("b", 2))
	_, unlockErr := database.Unlock(lockOf("a", 1).Project, "default")
	_, pullErr := database.UnlockByPull("acme/infra", 1)
	_, commandErr := database.LockCommand(command.Apply, time.Now())
	for _, err := range []error{tryErr, unlockErr, pullErr, commandErr} {
		if !errors.Is(err, atlock.ErrAuditFailed) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%v", err)
		}
	}
	locks, err := database.List()
	held, commandErr := database.CheckCommandLock(command.Apply)
	if len(locks) != 1 || held != nil || err != nil || commandErr != nil {
		t.Errorf("%+v, %v, %v, %v", locks, held, err, commandErr)
	}
	status, err := database.Status()
	if err != nil || len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "No space left") {
		t.Errorf("%+v, %v", status.Warnings, err)
	}
	metrics, err := database.Metrics()
	if err != nil || !strings.Contains(metrics, "\natlock_audit_events_lost_total 4\n") {
		t.Errorf("%s\n%v", metrics, err)
	}
	must(t, os.Remove(file))
	release(t, database, "a")
}

// Who guesses passwords does not push everything else out of the trail.
func TestDenied(t *testing.T) {
	config := settings("sled", "strict", t.TempDir(), "")
	config.Locking.Audit.File = filepath.Join(t.TempDir(), "audit")
	database, err := atlock.Open(config)
	must(t, err)
	defer database.Close()
	address := database.As(atlock.Actor{Via: atlock.ViaAPI, By: atlock.Person{Address: "192.0.2.7:1"}})
	for range 500 {
		address.Denied("POST /api/plan", "the API secret is wrong")
	}
	told := trailOf(t, config.Locking.Audit.File)
	if len(told) != 20 || told[0] != "denied POST /api/plan  #0 , via api by , of " {
		t.Errorf("%d: %q", len(told), told)
	}
	text, err := os.ReadFile(config.Locking.Audit.File)
	if err != nil || strings.Count(string(text), `"by":{"address":"192.0.2.7:1"}`) != 20 {
		t.Errorf("%s, %v", text, err)
	}
}

// Names are told of settings that changed, and no values.
func TestChangedSettings(t *testing.T) {
	before := settings("sled", "hybrid", "/a", "redis:1")
	after := settings("sled", "hybrid", "/b", "redis:2")
	after.Locking.Enhanced.Redis.Password = "s3cr3t"
	changed, err := atlock.ChangedSettings(before, after)
	want := []string{"locking.data_dir", "locking.enhanced.redis.address", "locking.enhanced.redis.password"}
	if err != nil || !slices.Equal(changed, want) {
		t.Errorf("%q, %v", changed, err)
	}
	if same, err := atlock.ChangedSettings(before, before); err != nil || len(same) != 0 {
		t.Errorf("%q, %v", same, err)
	}
}
