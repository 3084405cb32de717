package bolthost

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/internal/hostop"
)

func opened(t *testing.T, dir string) *Store {
	t.Helper()
	store, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, store) })
	return store
}

func closeStore(t *testing.T, store *Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// expect calls an operation, whose answer must be want.
func expect(t *testing.T, store *Store, op uint32, input, want string) {
	t.Helper()
	got, err := store.Call(op, []byte(input))
	if err != nil {
		t.Errorf("op %d %s: %v", op, input, err)
	} else if string(got) != want {
		t.Errorf("op %d %s:\n got %s\nwant %s", op, input, got, want)
	}
}

// refuses calls an operation, which must fail with a text that contains each of texts.
func refuses(t *testing.T, store *Store, op uint32, input string, texts ...string) {
	t.Helper()
	got, err := store.Call(op, []byte(input))
	if err == nil {
		t.Errorf("op %d %s is no error: %s", op, input, got)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("op %d %s: %q lacks %q", op, input, err, text)
		}
	}
}

// contents is the whole file, as "bucket key" and value. No store may have it open.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	inFile(t, dir, func(tx *bolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bolt.Bucket) error {
			return b.ForEach(func(key, value []byte) error {
				found[fmt.Sprintf("%s %s", bucket, key)] = string(value)
				return nil
			})
		})
	})
	return found
}

func inFile(t *testing.T, dir string, act func(tx *bolt.Tx) error) {
	t.Helper()
	file, err := bolt.Open(filepath.Join(dir, fileName), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Update(act), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// seed stores raw values of locks.
func seed(t *testing.T, dir string, values map[string]string) {
	t.Helper()
	inFile(t, dir, func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte(locksBucket))
		for key, value := range values {
			err = errors.Join(err, bucket.Put([]byte(key), []byte(value)))
		}
		return err
	})
}

func sampleLock(repo, dir string, pull int) models.ProjectLock {
	return models.ProjectLock{
		Project:   models.NewProject(repo, dir, "p<&>\u2028"),
		Pull:      models.PullRequest{Num: pull, BaseRepo: models.Repo{FullName: repo, VCSHost: models.VCSHost{Hostname: "vcs.example.com"}}},
		User:      models.User{Username: "gopher"},
		Workspace: "default",
		Time:      time.Now(),
	}
}

func quoted(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What stock writes, this reads, and the other way round, byte for byte.
func TestStockAndRawReadEachOther(t *testing.T) {
	lock, other := sampleLock("acme/infra", "a/b", 5), sampleLock("acme/infra", "c", 6)
	lockKey := models.GenerateLockKey(lock.Project, lock.Workspace)
	pull := lock.Pull
	pull.HeadCommit = "abc"
	results := []command.ProjectResult{{RepoRelDir: "a/b", Workspace: "default", ProjectName: "<p>"}}

	stockDir := t.TempDir()
	stock, err := boltdb.New(stockDir)
	if err != nil {
		t.Fatal(err)
	}
	_, _, lockErr := stock.TryLock(lock)
	_, _, otherErr := stock.TryLock(other)
	_, commandErr := stock.LockCommand(command.Apply, time.Unix(7, 0))
	status, statusErr := stock.UpdatePullWithResults(pull, results)
	if err := errors.Join(lockErr, otherErr, commandErr, statusErr, stock.Close()); err != nil {
		t.Fatal(err)
	}
	want := contents(t, stockDir)
	if len(want) != 4 {
		t.Fatalf("stock stored %d entries: %v", len(want), want)
	}

	store := opened(t, stockDir)
	expect(t, store, hostop.Get, fmt.Sprintf(`{"key":{"project":%s}}`, quoted(t, lockKey)), quoted(t, lock))
	expect(t, store, hostop.Get, `{"key":{"command":"apply"}}`, want["globalLocks apply/lock"])
	expect(t, store, hostop.PullStatus, `{"key":"vcs.example.com::acme/infra::5"}`, quoted(t, status))
	expect(t, store, hostop.List, `{}`, "["+quoted(t, lock)+","+quoted(t, other)+"]")
	dumped, err := store.Call(hostop.Dump, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, store)

	// The dump, applied to an empty file, makes the same file; so do the single operations.
	applied, single := t.TempDir(), t.TempDir()
	store = opened(t, applied)
	expect(t, store, hostop.Apply, fmt.Sprintf(`{"writes":%s}`, dumped), "{}")
	closeStore(t, store)
	store = opened(t, single)
	for key, value := range map[string]string{
		fmt.Sprintf(`{"project":%s}`, quoted(t, lockKey)):                                                quoted(t, lock),
		fmt.Sprintf(`{"project":%s}`, quoted(t, models.GenerateLockKey(other.Project, other.Workspace))): quoted(t, other),
		`{"command":"apply"}`: want["globalLocks apply/lock"],
	} {
		if _, err := store.Call(hostop.Grant, fmt.Appendf(nil, `{"key":%s,"value":%s}`, key, value)); err != nil {
			t.Error(err)
		}
	}
	expect(t, store, hostop.SwapPullStatus,
		fmt.Sprintf(`{"key":"vcs.example.com::acme/infra::5","expected":{"value":null},"new":%s}`, quoted(t, status)), `{"swapped":true}`)
	closeStore(t, store)

	for _, dir := range []string{applied, single} {
		got := contents(t, dir)
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s:\n got %s\nwant %s", key, got[key], value)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d entries, want %d", len(got), len(want))
		}
		stock, err := boltdb.New(dir)
		if err != nil {
			t.Fatal(err)
		}
		locks, err := stock.List()
		if err != nil || len(locks) != 2 || quoted(t, locks[0]) != quoted(t, lock) {
			t.Errorf("stock lists %v, %v", locks, err)
		}
		if held, err := stock.CheckCommandLock(command.Apply); err != nil || held == nil || held.LockMetadata.UnixTime != 7 {
			t.Errorf("stock's command lock: %v, %v", held, err)
		}
		if read, err := stock.GetPullStatus(pull); err != nil || read == nil || quoted(t, *read) != quoted(t, status) {
			t.Errorf("stock's pull status: %v, %v", read, err)
		}
		if released, err := stock.UnlockByPull("acme/infra", 5); err != nil || len(released) != 1 {
			t.Errorf("stock releases %v, %v", released, err)
		}
		if err := stock.Close(); err != nil {
			t.Error(err)
		}
	}
}

const plain = `{"Project":{"ProjectName":"","RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":5},"Workspace":"default"}`

func TestGrantReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	values := map[string]string{"json": plain, "empty": "", "text": "not JSON", "null": "null", "bytes": "\xff", "array": "[1]", "string": "\"\xff\""}
	answers := map[string]string{"json": plain, "array": "[1]"}
	seed(t, dir, values)
	store := opened(t, dir)
	for key := range values {
		answer, isJSON := answers[key]
		if !isJSON {
			answer = unreadable
		}
		named := fmt.Sprintf(`{"key":{"project":%q}}`, key)
		expect(t, store, hostop.Grant, fmt.Sprintf(`{"key":{"project":%q},"value":{"mine":1}}`, key), `{"granted":false,"value":`+answer+`}`)
		expect(t, store, hostop.Get, named, answer)
		if key != "json" {
			refuses(t, store, hostop.Release, fmt.Sprintf(`{"key":{"project":%q},"fields":null,"pull_num":null}`, key), key, "stays as it is")
		}
	}
	answer, err := store.Call(hostop.List, []byte("{}"))
	var listed []json.RawMessage
	if err := errors.Join(err, json.Unmarshal(answer, &listed)); err != nil || len(listed) != len(values) {
		t.Errorf("List: %s, %v", answer, err)
	}
	expect(t, store, hostop.ReleaseByPull, `{"repo":"acme/infra","num":5}`, "["+plain+"]")
	expect(t, store, hostop.Discard, `{"key":{"project":"text"}}`, unreadable)
	expect(t, store, hostop.Discard, `{"key":{"project":"text"}}`, "null")
	closeStore(t, store)
	delete(values, "json")
	delete(values, "text")
	got := contents(t, dir)
	for key, value := range values {
		if got["runLocks "+key] != value {
			t.Errorf("%s is now %q", key, got["runLocks "+key])
		}
	}
	if len(got) != len(values) {
		t.Errorf("stored: %q", got)
	}
}

func TestReleaseIsGuarded(t *testing.T) {
	store := opened(t, t.TempDir())
	const named = `{"key":{"project":"acme/infra/./default/"}`
	grant := named + `,"value":` + plain + `}`
	if _, err := store.Call(hostop.Grant, []byte(grant)); err != nil {
		t.Fatal(err)
	}
	const own = `{"repo":"acme/infra","path":".","workspace":"default","project":""}`
	for _, guards := range []string{
		`"fields":null,"pull_num":6`,
		`"fields":` + own + `,"pull_num":6`,
		`"fields":{"repo":"acme","path":"infra/.","workspace":"default","project":""},"pull_num":5`,
		`"fields":{"repo":"acme/infra","path":".","workspace":"default","project":"p"},"pull_num":null`,
	} {
		expect(t, store, hostop.Release, named+","+guards+"}", "null")
	}
	for _, guards := range []string{`"fields":null,"pull_num":null`, `"fields":null,"pull_num":5`, `"fields":` + own + `,"pull_num":5`} {
		expect(t, store, hostop.Release, named+","+guards+"}", plain)
		expect(t, store, hostop.Release, named+","+guards+"}", "null")
		if _, err := store.Call(hostop.Grant, []byte(grant)); err != nil {
			t.Fatal(err)
		}
	}
	for _, pull := range []string{`{"repo":"acme/inf","num":5}`, `{"repo":"acme/infra/","num":5}`, `{"repo":"ACME/infra","num":5}`, `{"repo":"acme/infra","num":55}`} {
		expect(t, store, hostop.ReleaseByPull, pull, "[]")
	}
	expect(t, store, hostop.ReleaseByPull, `{"repo":"acme/infra","num":5}`, "["+plain+"]")
}

func TestSwapPullStatus(t *testing.T) {
	store := opened(t, t.TempDir())
	swap := func(expected, newValue string) string {
		return fmt.Sprintf(`{"key":"h::r::1","expected":%s,"new":%s}`, expected, newValue)
	}
	const done = `{"swapped":true}`
	expect(t, store, hostop.SwapPullStatus, swap(`{"value":{"a":1}}`, `{"b":1}`), `{"swapped":false,"value":null}`)
	expect(t, store, hostop.SwapPullStatus, swap(`{"value":null}`, `{"a": 1}`), done)
	expect(t, store, hostop.SwapPullStatus, swap(`{"value":null}`, `{"b":1}`), `{"swapped":false,"value":{"a": 1}}`)
	expect(t, store, hostop.SwapPullStatus, swap(`{"value":{"a":1}}`, `{"b":1}`), `{"swapped":false,"value":{"a": 1}}`)
	expect(t, store, hostop.SwapPullStatus, swap(`{"value":{"a": 1}}`, `null`), done)
	expect(t, store, hostop.PullStatus, `{"key":"h::r::1"}`, "null")
	expect(t, store, hostop.SwapPullStatus, swap(`{"any":true}`, `[]`), done)
	for _, stored := range []string{"not JSON", "null", "", "\u0001"} {
		expect(t, store, hostop.Apply, `{"writes":[{"key":{"status":"h::r::1"},"value":`+quoted(t, stored)+`}]}`, "{}")
		expect(t, store, hostop.PullStatus, `{"key":"h::r::1"}`, unreadable)
		expect(t, store, hostop.SwapPullStatus, swap(`{"value":null}`, `{"c":1}`), `{"swapped":false,"value":`+unreadable+`}`)
		expect(t, store, hostop.SwapPullStatus, swap(`{"value":`+unreadable+`}`, `{"c":1}`), done)
	}
	// White space around a value is not part of an answer, and does not stop a swap.
	expect(t, store, hostop.Apply, `{"writes":[{"key":{"status":"h::r::1"},"value":" {}\n"}]}`, "{}")
	expect(t, store, hostop.SwapPullStatus, swap(`{"value":{}}`, `{"d":1}`), done)
}

func TestDumpAndApplyTakeAnything(t *testing.T) {
	dir := t.TempDir()
	store := opened(t, dir)
	const all = `[{"key":{"project":"a"},"value":"not JSON"},{"key":{"project":"b"},"value":""},` +
		`{"key":{"command":"apply"},"value":" {}\n"},{"key":{"status":"h::r::1"},"value":"null"}]`
	expect(t, store, hostop.Dump, "{}", "[]")
	expect(t, store, hostop.Apply, `{"writes":`+all+`}`, "{}")
	expect(t, store, hostop.Dump, "{}", all)
	expect(t, store, hostop.Apply, `{"writes":[{"key":{"project":"a"},"value":"1"},{"key":{"project":"a"},"value":null},`+
		`{"key":{"project":"gone"},"value":null},{"key":{"project":"b"},"value":"2"}]}`, "{}")
	// All or none: the last key cannot be stored.
	refuses(t, store, hostop.Apply, `{"writes":[{"key":{"project":"b"},"value":"3"},{"key":{"status":""},"value":"4"}]}`, `pull status ""`)
	refuses(t, store, hostop.Apply, `{"writes":[{"key":{"project":"b"},"value":"3"},{"key":{},"value":"4"}]}`, "names no")
	closeStore(t, store)

	inFile(t, dir, func(tx *bolt.Tx) error {
		return errors.Join(
			tx.Bucket([]byte(locksBucket)).Put([]byte("c"), []byte("\xff")),
			tx.Bucket([]byte(locksBucket)).Put([]byte("\xff"), []byte("{}")),
			tx.Bucket([]byte(commandsBucket)).Put([]byte("no command's"), []byte("{}")),
		)
	})
	store = opened(t, dir)
	expect(t, store, hostop.Dump, "{}", `[{"key":{"project":"b"},"value":"2"},{"key":{"project":"c"},"unreadable":true},`+
		`{"key":{"project":"\ufffd"},"unreadable":true},{"key":{"command":"apply"},"value":" {}\n"},{"key":{"status":"h::r::1"},"value":"null"}]`)
}

func TestTokensGrow(t *testing.T) {
	store := opened(t, t.TempDir())
	store.lastToken = time.Now().Add(time.Hour).UnixMicro() // the clock was set back
	var tokens sync.Map
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			var answer struct {
				Granted bool
				Token   int64
			}
			output, err := store.Call(hostop.Grant, fmt.Appendf(nil, `{"key":{"project":"k%d"},"value":{}}`, i))
			if err := errors.Join(err, json.Unmarshal(output, &answer)); err != nil || !answer.Granted {
				t.Errorf("%s, %v", output, err)
			}
			if _, twice := tokens.LoadOrStore(answer.Token, true); twice {
				t.Errorf("token %d twice", answer.Token)
			}
		})
	}
	group.Wait()
	if ahead := store.lastToken - time.Now().Add(59*time.Minute).UnixMicro(); ahead < 0 {
		t.Errorf("tokens fell back to the clock")
	}
}

func TestLongKeysAreShortInErrors(t *testing.T) {
	store := opened(t, t.TempDir())
	input := fmt.Sprintf(`{"writes":[{"key":{"project":"%s"},"value":"1"}]}`, strings.Repeat("é", 40_000))
	_, err := store.Call(hostop.Apply, []byte(input))
	if err == nil || !strings.Contains(err.Error(), "key too large") || len(err.Error()) > 400 {
		t.Errorf("got %.500v", err)
	}
}
