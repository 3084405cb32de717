package main

import (
	"context"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// routes adds atlock's own pages and endpoints to those of Atlantis, until ctx ends. It runs before Atlantis registers its own.
func routes(ctx context.Context, atlantis *server.Server, database *atlock.Database) {
	web.Register(ctx, atlantis.Router, database, web.Options{
		BasePath:        atlantis.AtlantisURL.Path,
		AtlantisVersion: atlantis.AtlantisVersion,
	})
}
