package bolthost

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/internal/hostop"
)

// Old keys move as in stock, and where stock's own move fails.
func TestOldKeysMove(t *testing.T) {
	at := func(repo, path string) string {
		return fmt.Sprintf(`{"Project":{"RepoFullName":%q,"Path":%q},"Pull":{"Num":5},"Workspace":"default"}`, repo, path)
	}
	named := func(path, project string) string {
		return fmt.Sprintf(`{"Project":{"ProjectName":%q,"RepoFullName":"one/key","Path":%q},"Pull":{"Num":5},"Workspace":"default"}`, project, path)
	}
	dir := t.TempDir()
	seed(t, dir, map[string]string{
		"one/key/a/default":                   named("a", "default/p"),
		"one/key/a/default/default":           named("a/default", "p"),
		"acme/infra/./default":                at("acme/infra", "."),
		"acme/infra/a/b/default":              at("acme/infra", "a/b"),
		"acme/infra/corrupt/default":          "not JSON",
		"acme/infra/a\nb/default/":            at("acme/infra", "a\nb"),
		"acme/infra/held/default":             at("acme/infra", "held"),
		"acme/infra/held/default/":            `{"another":"holder"}`,
		"acme/infra/elsewhere/default/extra/": at("acme/infra", "elsewhere"),
	})
	closeStore(t, opened(t, dir))
	want := map[string]string{
		"runLocks one/key/a/default/default/p":         named("a", "default/p"),
		"runLocks one/key/a/default/default":           named("a/default", "p"),
		"runLocks acme/infra/./default/":               at("acme/infra", "."),
		"runLocks acme/infra/a/b/default/":             at("acme/infra", "a/b"),
		"runLocks acme/infra/corrupt/default":          "not JSON",
		"runLocks acme/infra/a\nb/default/":            at("acme/infra", "a\nb"),
		"runLocks acme/infra/held/default":             at("acme/infra", "held"),
		"runLocks acme/infra/held/default/":            `{"another":"holder"}`,
		"runLocks acme/infra/elsewhere/default/extra/": at("acme/infra", "elsewhere"),
	}
	if got := contents(t, dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stored:\n%q, want\n%q", got, want)
	}
}

func TestOpenFailsWithStocksTexts(t *testing.T) {
	busy := t.TempDir()
	opened(t, busy)
	file := filepath.Join(t.TempDir(), "a file")
	inFile(t, filepath.Dir(file), func(*bolt.Tx) error { return nil })
	for _, dir := range []string{busy, filepath.Join(filepath.Dir(file), fileName)} {
		_, got := Open(dir)
		_, want := boltdb.New(dir)
		if got == nil || want == nil || got.Error() != want.Error() {
			t.Errorf("%s: %v, want %v", dir, got, want)
		}
	}
}

func TestWhatIsNotUnderstoodIsAnError(t *testing.T) {
	store := opened(t, t.TempDir())
	refuses(t, store, hostop.Migration+1, "{}", "later version")
	refuses(t, store, hostop.Get, "{", "the input")
	refuses(t, store, hostop.Get, `{"key":{}}`, "names no")
	expect(t, store, hostop.Ping, "{}", "{}")
	closeStore(t, store)
	refuses(t, store, hostop.Ping, "{}", "not open")
	if answer, err := store.Call(hostop.Get, bytes.Repeat([]byte("["), 1<<20)); err == nil {
		t.Errorf("got %s", answer)
	}
}

// A mark is in the file with the writes beside it, and tells whether anything was written since, by stock too.
func TestAMarkTellsWhoWroteLast(t *testing.T) {
	dir := t.TempDir()
	store := opened(t, dir)
	const entry = `{"key":{"project":"a"},"value":"1"}`
	marked := func(mark string, since bool) string {
		return fmt.Sprintf(`[%s,{"mark":%q,"written_since":%v}]`, entry, mark, since)
	}
	expect(t, store, hostop.Apply, `{"writes":[`+entry+`]}`, "{}")
	expect(t, store, hostop.Dump, "{}", "["+entry+"]")
	expect(t, store, hostop.Apply, `{"writes":[],"mark":"1 <me>"}`, "{}")
	expect(t, store, hostop.Dump, "{}", strings.ReplaceAll(marked("1 <me>", false), "<me>", `\u003cme\u003e`))
	// All or none.
	refuses(t, store, hostop.Apply, `{"writes":[{"key":{"project":""},"value":"2"}],"mark":"2"}`, `lock ""`)
	expect(t, store, hostop.Apply, `{"writes":[],"mark":"1 me"}`, "{}")
	// Reading, and opening again, write nothing.
	expect(t, store, hostop.Ping, "{}", "{}")
	for range 2 {
		closeStore(t, store)
		store = opened(t, dir)
	}
	expect(t, store, hostop.Dump, "{}", marked("1 me", false))
	// A write without a mark, and whatever stock's own start writes.
	expect(t, store, hostop.Apply, `{"writes":[`+entry+`]}`, "{}")
	expect(t, store, hostop.Dump, "{}", marked("1 me", true))
	expect(t, store, hostop.Apply, `{"writes":[],"mark":"2 me"}`, "{}")
	expect(t, store, hostop.Dump, "{}", marked("2 me", false))
	closeStore(t, store)
	stock, err := boltdb.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := stock.Close(); err != nil {
		t.Fatal(err)
	}
	store = opened(t, dir)
	expect(t, store, hostop.Dump, "{}", marked("2 me", true))
}

func TestADamagedFileIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	closeStore(t, opened(t, dir))
	path := filepath.Join(dir, fileName)
	if err := Check(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	_, openErr := Open(dir)
	for _, err := range []error{openErr, Check(dir)} {
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	}
	aside, err := MoveAside(dir)
	if err != nil || !strings.HasPrefix(aside, path+".damaged-") {
		t.Fatal(aside, err)
	}
	if info, err := os.Stat(aside); err != nil || info.Size() != 8192 {
		t.Error(err)
	}
	if err := Check(dir); err != nil {
		t.Errorf("nothing is there: %v", err)
	}
	store := opened(t, dir)
	if err := Check(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("while it is open: %v", err)
	}
	expect(t, store, hostop.Dump, "{}", "[]")
}
