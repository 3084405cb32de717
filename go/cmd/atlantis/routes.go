package main

import (
	"context"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/handover"
	"github.com/atlock/atlock/go/web"
)

// routes adds atlock's page and endpoints to those of Atlantis. It runs before Atlantis registers its own.
func routes(ctx context.Context, atlantis *server.Server, database *atlock.Database, handed *handover.Handover) {
	web.Register(ctx, atlantis.Router, database, web.Options{
		BasePath:        atlantis.AtlantisURL.Path,
		AtlantisVersion: atlantis.AtlantisVersion,
		APISecret:       atlantis.APIController.APISecret,
		Stale:           staleOf(handed),
	})
}

// staleOf tells the locks that nobody will release; nil where nobody looks for them.
func staleOf(handed *handover.Handover) func() []web.StaleLock {
	if handed.Stale() == nil {
		return nil
	}
	return func() []web.StaleLock {
		var stale []web.StaleLock
		for _, lock := range handed.Stale() {
			stale = append(stale, web.StaleLock(lock))
		}
		return stale
	}
}
