package main

import (
	"context"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// routes adds atlock's page and endpoints to those of Atlantis. It runs before Atlantis registers its own.
func routes(ctx context.Context, atlantis *server.Server, database *atlock.Database) {
	web.Register(ctx, atlantis.Router, database, web.Options{
		BasePath:        atlantis.AtlantisURL.Path,
		AtlantisVersion: atlantis.AtlantisVersion,
		APISecret:       atlantis.APIController.APISecret,
	})
}
