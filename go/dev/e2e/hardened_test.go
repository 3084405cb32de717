//go:build e2e

package e2e

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheServerIsHardened reads the linked server's file: its address changes with each start, its tables are read-only once it runs, its stacks are
// not run, and no folder of who built it is in it.
func TestTheServerIsHardened(t *testing.T) {
	t.Parallel()
	path := hybridSled.binary(t)
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Type != elf.ET_DYN {
		t.Errorf("it is no position-independent program, but %s", file.Type)
	}
	flags := func(tag elf.DynTag) uint64 {
		values, err := file.DynValue(tag)
		if err != nil || len(values) > 1 {
			t.Fatal(tag, values, err)
		}
		if len(values) == 0 {
			return 0
		}
		return values[0]
	}
	if elf.DynFlag(flags(elf.DT_FLAGS))&elf.DF_BIND_NOW == 0 && elf.DynFlag1(flags(elf.DT_FLAGS_1))&elf.DF_1_NOW == 0 {
		t.Error("symbols are bound when they are first used, so that their table stays writable")
	}
	segments := map[elf.ProgType]elf.ProgFlag{}
	for _, segment := range file.Progs {
		segments[segment.Type] = segment.Flags
	}
	if _, has := segments[elf.PT_GNU_RELRO]; !has {
		t.Error("no segment is read-only after relocation")
	}
	if stack, has := segments[elf.PT_GNU_STACK]; !has || stack&elf.PF_X != 0 {
		t.Error("its stack may be run")
	}

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{filepath.Join(home, ".cargo"), filepath.Join(home, ".rustup"), filepath.Join(home, "go", "pkg"), root} {
		if at := bytes.Index(content, []byte(folder+"/")); at >= 0 {
			text, _, _ := strings.Cut(string(content[at:min(len(content), at+200)]), "\x00")
			t.Errorf("it names a folder of this machine: %.200q", text)
		}
	}
}
