package main

import (
	"context"
	"log/slog"

	"github.com/runatlantis/atlantis/server/logging"
)

// logHandler writes to Atlantis's log. Atlantis silences the standard logger, where slog would write otherwise.
type logHandler struct {
	logger logging.SimpleLogging
	group  string // prefix of the attributes' keys
}

func newLogHandler(logger logging.SimpleLogging) slog.Handler { return logHandler{logger: logger} }

// Enabled lets Atlantis's logger decide.
func (logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h logHandler) Handle(_ context.Context, record slog.Record) error {
	logger := h.logger
	record.Attrs(func(attribute slog.Attr) bool {
		logger = h.with(logger, attribute)
		return true
	})
	write := logger.Err
	switch {
	case record.Level < slog.LevelInfo:
		write = logger.Debug
	case record.Level < slog.LevelWarn:
		write = logger.Info
	case record.Level < slog.LevelError:
		write = logger.Warn
	}
	write("%s", record.Message)
	return nil
}

func (h logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	for _, attribute := range attributes {
		h.logger = h.with(h.logger, attribute)
	}
	return h
}

func (h logHandler) WithGroup(name string) slog.Handler {
	h.group += name + "."
	return h
}

func (h logHandler) with(logger logging.SimpleLogging, attribute slog.Attr) logging.SimpleLogging {
	return logger.With(h.group+attribute.Key, attribute.Value.String())
}
