package conformance

import (
	"os"
	"testing"
)

// memoryDir is where Linux keeps files in memory.
const memoryDir = "/dev/shm"

// TempDir returns an empty folder that is removed when the test ends. It is in
// memory where the machine offers that: the suite syncs tens of thousands of
// times, it restarts databases but never the machine, and a busy disk would
// make it many times slower without testing more.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(memoryDir, "atlock-conformance-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove temporary folder: %v", err)
		}
	})
	return dir
}
