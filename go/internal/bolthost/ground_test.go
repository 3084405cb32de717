package bolthost

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atlock/atlock/go/internal/hostop"
)

// A file that is not at its path any more is told of by every operation, until it is put back.
func TestAFileThatIsNotAtItsPathTakesNothing(t *testing.T) {
	for name, blow := range map[string]func(dir, file string) error{
		"moved":        func(_, file string) error { return os.Rename(file, file+".kept") },
		"folder moved": func(dir, _ string) error { return os.Rename(dir, dir+".kept") },
		"replaced": func(_, file string) error {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := os.Rename(file, file+".kept"); err != nil {
				return err
			}
			return os.WriteFile(file, content, 0o600)
		},
		"deleted": func(_, file string) error { return os.Remove(file) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			store, file := opened(t, dir), filepath.Join(dir, fileName)
			lock := quoted(t, sampleLock("acme/infra", ".", 1))
			if _, err := store.Call(hostop.Grant, []byte(`{"key":{"project":"before"},"value":`+lock+`}`)); err != nil {
				t.Fatal(err)
			}
			if err := blow(dir, file); err != nil {
				t.Fatal(err)
			}
			apply := `{"writes":[{"key":{"project":"a"},"value":"{}"}]}`
			for op, input := range map[uint32]string{
				hostop.Apply: apply, hostop.Ping: "{}", hostop.Dump: "{}", hostop.List: "{}",
				hostop.Grant: `{"key":{"project":"b"},"value":` + lock + `}`,
			} {
				refuses(t, store, op, input, "BoltDB's file was", file, "stop the server")
			}
			for _, put := range []string{dir, file} {
				if _, err := os.Stat(put + ".kept"); err == nil {
					if err := os.Rename(put+".kept", put); err != nil {
						t.Fatal(err)
					}
					expect(t, store, hostop.Ping, "{}", "{}")
					expect(t, store, hostop.Apply, apply, "{}")
				}
			}
		})
	}
}

// A relative folder stays where it was.
func TestTheWorkingDirectoryMayChange(t *testing.T) {
	t.Chdir(t.TempDir())
	store := opened(t, "data")
	t.Chdir("/")
	expect(t, store, hostop.Ping, "{}", "{}")
}
