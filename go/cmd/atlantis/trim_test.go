package main

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]struct {
		start, end   uintptr
		unchangeable bool
	}{
		"00400000-01afa000 r-xp 00000000 fe:00 10127792                           /usr/bin/atlantis":  {0x400000, 0x1afa000, true},
		"7f018be15000-7f018bf6b000 r--p 00026000 fe:00 326269                     /usr/lib/libc.so.6": {0x7f018be15000, 0x7f018bf6b000, false},
		"033e8000-03561000 rw-p 02fe8000 fe:00 10127792                           /usr/bin/atlantis":  {0x33e8000, 0x3561000, false},
		"7f0000000000-7f0000001000 r--s 00000000 fe:00 1                          /data/atlantis.db":  {0x7f0000000000, 0x7f0000001000, false},
		"7f0000000000-7f0000001000 r--p 00000000 00:00 0 ":                                            {0x7f0000000000, 0x7f0000001000, false},
		"7ffa5a2e8000-7ffa5a2ea000 r-xp 00000000 00:00 0                          [vdso]":             {0x7ffa5a2e8000, 0x7ffa5a2ea000, false},
		"7f0000000000-7f0000001000 r--p 00000000 fe:00 1                          /usr/bin/atlantis":  {0x7f0000000000, 0x7f0000001000, true},
	} {
		got, ok := parseMapping(line, "/usr/bin/atlantis")
		if !ok || got.start != want.start || got.end != want.end || got.unchangeable != want.unchangeable {
			t.Errorf("%s: got %+v, %t", line, got, ok)
		}
	}
	for _, line := range []string{"Rss:                 804 kB", "Anonymous:             0 kB", "VmFlags: rd ex mr mw me", ""} {
		if got, ok := parseMapping(line, "/usr/bin/atlantis"); ok {
			t.Errorf("%q: got %+v", line, got)
		}
	}
}

const trimAlone = "ATLOCK_TEST_TRIM"

// A process of its own: the test's other goroutines would touch pages meanwhile.
func TestTrim(t *testing.T) {
	if os.Getenv(trimAlone) != "" {
		before := residentFile(t)
		trim()
		after := residentFile(t)
		if before == 0 || after > before*3/4 {
			t.Errorf("%d kB of files before, %d kB after", before, after)
		}
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(program, "-test.run=^TestTrim$")
	child.Env = append(os.Environ(), trimAlone+"=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// residentFile tells how much of files is mapped and present, in kB.
func residentFile(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if fields := strings.Fields(string(line)); fields[0] == "RssFile:" {
			kB, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kB
		}
	}
	t.Fatal("no RssFile")
	return 0
}
