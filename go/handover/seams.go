//go:build !atlantis_before_v0_46

package handover

import (
	"time"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/events/models"
)

// pullFetcherOf is who asks the Git host in this server.
func pullFetcherOf(atlantis *server.Server) pullFetcher {
	return atlantis.APIController.LivePullHeadFetcher
}

// tail is for how long a command waits for the end of the one before: here a comment is a command's last word.
const tail time.Duration = 0

// unlocksWhoeverHolds: a plan that fails gives its lock up as a person does on the page, also one under which something was applied.
const unlocksWhoeverHolds = false

// partsOff is what this release gives no hold for.
var partsOff []string

// newRepo is models.NewRepo.
func newRepo(kind models.VCSHostType, name, clone, user, token string) (models.Repo, error) {
	return models.NewRepo(kind, name, clone, user, token, "")
}
