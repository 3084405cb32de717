package bolthost

import (
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/internal/hostop"
)

func TestALookChangesNothing(t *testing.T) {
	dir := t.TempDir()
	look := Look{dir}
	answers := func(want string) {
		t.Helper()
		if got, err := look.Call(hostop.Dump, []byte("{}")); err != nil || string(got) != want {
			t.Fatalf("%s, %v, not %s", got, err, want)
		}
	}
	answers("[]")
	if found, err := os.ReadDir(dir); err != nil || len(found) != 0 {
		t.Fatalf("a look made %v (%v)", found, err)
	}
	// A file that nobody has prepared has no buckets.
	empty, err := bolt.Open(Path(dir), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := look.Call(hostop.Dump, []byte("{}")); err == nil || !strings.Contains(err.Error(), "another Atlantis instance") {
		t.Fatalf("a file that is in use: %v", err)
	}
	if err := empty.Close(); err != nil {
		t.Fatal(err)
	}
	answers("[]")
	store := opened(t, dir)
	const lock = `[{"key":{"project":"a"},"value":"{}"}]`
	expect(t, store, hostop.Apply, `{"writes":`+lock+`}`, "{}")
	closeStore(t, store)
	before, err := os.ReadFile(Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	answers(lock)
	if after, err := os.ReadFile(Path(dir)); err != nil || string(after) != string(before) {
		t.Fatalf("a look changed the file (%v)", err)
	}
	if _, err := look.Call(hostop.Ping, []byte("{}")); err == nil {
		t.Fatal("a look is more than a dump")
	}
}
