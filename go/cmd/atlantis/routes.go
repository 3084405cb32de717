package main

import (
	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
)

// routes adds atlock's own pages and endpoints to those of Atlantis. It runs before Atlantis registers its own.
//
// SEAM: web.Register of package go/web is called here when that branch is merged.
func routes(_ *server.Server, _ *atlock.Database, _ server.UserConfig) {}
