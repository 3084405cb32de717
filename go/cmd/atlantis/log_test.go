package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/logging"
)

func TestLogHandler(t *testing.T) {
	logger := logging.NewNoopLogger(t).WithHistory()
	written := slog.New(newLogHandler(logger))
	written.Debug("a 100% debug")
	written.Info("an info")
	written.Warn("a warning", "key", 1)
	written.With("a", 1).WithGroup("g").Error("an error", "b", 2)
	history := logger.GetHistory()
	for _, want := range []string{"[DBUG] a 100% debug", "[INFO] an info"} {
		if !strings.Contains(history, want) {
			t.Errorf("%q is missing in\n%s", want, history)
		}
	}
}
