package main

import (
	"net/url"

	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// failedLogin is what Atlantis logs, with the request's address, when somebody gave a wrong user or password to its pages or to those of
// go/web. It tells nowhere else of that, and does not say who that was, nor from where.
const failedLogin = "[INVALID] log in attempt: >> url: %s"

// loginLogger is Atlantis's logger in the hands of its web server, whose failed log-ins go into the audit trail, too.
type loginLogger struct {
	logging.SimpleLogging
	database *atlock.Database
}

// Info logs.
func (l loginLogger) Info(format string, a ...any) {
	l.SimpleLogging.Info(format, a...)
	if format != failedLogin || len(a) != 1 {
		return
	}
	path := "a page"
	if text, is := a[0].(string); is {
		if asked, err := url.ParseRequestURI(text); err == nil { // its query may hold anything
			path = asked.Path
		}
	}
	l.database.As(atlock.Actor{Via: atlock.ViaPage}).Denied(path, "a wrong user or password")
}
