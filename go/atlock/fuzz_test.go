package atlock

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

// What is read of locks, pull statuses and runs. `go test` goes through the seeds, and `make fuzz` on from there.

// marker is in seeds where a token is in real values: no error repeats it.
const marker = "hunter2hunter2"

// addLocks adds the corpus that Rust, Lua and Go agree on.
func addLocks(f *testing.F) {
	f.Helper()
	file, err := os.Open("../../tests/locks.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	count := 0
	for lines := bufio.NewScanner(file); lines.Scan(); count++ {
		var one struct{ JSON, Hex string }
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			f.Fatal(err)
		}
		raw, err := hex.DecodeString(one.Hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte(one.JSON), raw...))
	}
	if count < 200 {
		f.Fatalf("the corpus has %d cases", count)
	}
	for _, odd := range []string{
		`{"Time":"` + marker + `"}`, `{"User":"` + marker + `"}`, `{"Pull":{"State":"` + marker + `"}}`, marker, `{"` + marker, `{"` + marker + `":1}` + marker,
		`{"Pull":{"BaseRepo":{"CloneURL":"https://ann:` + marker + `@example.com/x","VCSHost":{"Type":"x"}}}}`,
	} {
		f.Add([]byte(odd))
	}
	full, err := json.Marshal(models.ProjectLock{Project: release.NewProject("acme/infra", "a", "web"), Pull: models.PullRequest{Num: 7}, Workspace: "default"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
}

// saysNothing: an error goes to logs and comments.
func saysNothing(t *testing.T, text []byte, err error) {
	t.Helper()
	if message := err.Error(); strings.Contains(message, "hunter2") || len(message) > 1000 {
		t.Fatalf("%q: the error repeats it: %s", text, message)
	}
}

// decodeLock takes, refuses and reads what encoding/json does, with which Atlantis reads; and what of a lock can be read names it.
func FuzzDecodeLock(f *testing.F) {
	addLocks(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		var want, got models.ProjectLock
		wantErr, gotErr := json.Unmarshal(text, &want), decodeLock(string(text), &got)
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%q\nencoding/json: %v\ndecodeLock: %v", text, wantErr, gotErr)
		}
		key := keyOf(text)
		if gotErr != nil {
			saysNothing(t, text, gotErr)
			return
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("%q\nencoding/json: %#v\ndecodeLock: %#v", text, want, got)
		}
		if named := models.GenerateLockKey(got.Project, got.Workspace); key != named {
			t.Fatalf("%q: its key is %q, and %q is told", text, named, key)
		}
	})
}

// The same of a pull status.
func FuzzDecodePullStatus(f *testing.F) {
	addLocks(f)
	for _, seed := range []string{
		`{"Projects":[{"Workspace":"default","RepoRelDir":".","ProjectName":"","PolicyStatus":[{"PolicySetName":"p"}],"Status":1}],"Pull":{"Num":7}}`,
		`{"Projects":null}`, `{"Projects":[null]}`, `{"Projects":{}}`, `{"Projects":[{"Status":"` + marker + `"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want models.PullStatus
		wantErr := json.Unmarshal(text, &want)
		got, gotErr := decodePullStatus("key", text)
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("%q\nencoding/json: %v\ndecodePullStatus: %v", text, wantErr, gotErr)
		}
		if gotErr != nil {
			saysNothing(t, text, gotErr)
		} else if got == nil || !reflect.DeepEqual(want, *got) {
			t.Fatalf("%q\nencoding/json: %#v\ndecodePullStatus: %#v", text, want, got)
		}
	})
}

// givesNothingUp is a store in which nobody holds anything.
type givesNothingUp struct{ release.Database }

func (givesNothingUp) UnlockIfOwnedByPull(models.Project, string, int) (*models.ProjectLock, error) {
	return nil, nil
}

// Runs that are carried from one store to the next in a change of mode: each is there afterwards with nothing that it has still to give up, or
// the change hears why not.
func FuzzCarriedRuns(f *testing.F) {
	for _, seed := range []string{
		`{"last_run":7,"runs":{"7":{"repo":"acme/infra","pull":{"num":7},"command":"plan","applied":["a"],"declared":{"a":"{}"},"deferred":{"b":"{}"}}}}`,
		`{"runs":{"7":null}}`, `{"runs":null}`, `{"runs":{"7":{"deferred":{"a":"` + marker + `"}}}}`, `{"runs":{"-1":{}}}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		store := &passthrough{direct: &direct{legacy: givesNothingUp{}}}
		if store.carryOn(text) != nil {
			return
		}
		for number, run := range store.runs.Runs {
			if run == nil || len(run.Deferred) > 0 {
				t.Fatalf("%q: run %d is %+v", text, number, run)
			}
			if _, err := store.runTryLock(number, []byte("no lock")); err == nil {
				t.Fatalf("%q: run %d takes what is no lock", text, number)
			}
			if _, err := store.runEnd(number); err != nil {
				t.Fatalf("%q: run %d does not end: %v", text, number, err)
			}
		}
	})
}
