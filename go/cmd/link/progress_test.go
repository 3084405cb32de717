package main

import (
	"strings"
	"testing"
	"time"
)

// TestReport: progress is told at a tick, and what the compiler says against the code is passed on whole.
func TestReport(t *testing.T) {
	for name, isTerminal := range map[string]bool{"log": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			lines, ticks := make(chan string), make(chan time.Time)
			go func() {
				for _, line := range []string{"go: downloading github.com/google/uuid v1.6.0", "runtime/cgo", "github.com/google/uuid"} {
					lines <- line
				}
				ticks <- time.Now()
				lines <- "# github.com/google/uuid"
				lines <- "./uuid.go:1:1: expected 'package'"
				close(lines)
			}()
			var out strings.Builder
			report(&out, lines, ticks, isTerminal)
			for _, text := range []string{"1 modules fetched, 2 packages compiled", "# github.com/google/uuid\n", "./uuid.go:1:1: expected 'package'\n"} {
				if !strings.Contains(out.String(), text) {
					t.Errorf("%q is not in %q", text, out.String())
				}
			}
			if strings.Contains(out.String(), "\x1b") != isTerminal {
				t.Errorf("a log has what only a terminal understands, or a terminal has it not: %q", out.String())
			}
		})
	}
}
