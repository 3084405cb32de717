package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/runatlantis/atlantis/server"
	"golang.org/x/sys/unix"
)

// trimmed is stock Atlantis's server.
type trimmed struct{ *server.Server }

// Start serves until the process is told to stop.
func (t trimmed) Start() error {
	trim()
	return t.Server.Start()
}

// trim gives back what only the start needed: pages of the program's file. A page that is still used comes back from the page
// cache when it is touched. The kernel maps each page with its neighbours, so that an idle server would otherwise hold most of a
// file that is larger than stock's by the library.
//
// Only mappings that nobody can write, and in which no page was changed before (by the dynamic linker), are given back: their
// content is the file's. Libraries stay, because another thread may be loading one. Nothing depends on it: where it does not
// work, the pages stay.
func trim() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	var mapping span
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		line := lines.Text()
		if next, ok := parseMapping(line, program); ok {
			mapping = next
		} else if mapping.unchangeable && strings.HasPrefix(line, "Anonymous:") && strings.Fields(line)[1] == "0" {
			unix.Syscall(unix.SYS_MADVISE, mapping.start, mapping.end-mapping.start, unix.MADV_DONTNEED) //nolint:errcheck // see above
		}
	}
}

// span is a mapping of this process's memory.
type span struct {
	start, end   uintptr
	unchangeable bool // private, of the program's file, and not writable
}

// parseMapping reads the first line of a mapping in smaps.
func parseMapping(line, program string) (span, bool) {
	var s span
	var permissions, offset, device string
	var inode int
	n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %d", &s.start, &s.end, &permissions, &offset, &device, &inode)
	if n < 6 {
		return span{}, false
	}
	s.unchangeable = (permissions == "r--p" || permissions == "r-xp") && strings.HasSuffix(line, " "+program)
	return s, true
}
