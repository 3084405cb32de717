package handover

import (
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// cleaner is Atlantis's cleaner of closed pull requests (S5). It is told of a close while a plan of that pull request may still run, whose
// later locks nobody would ever release.
type cleaner struct {
	events.PullCleaner
	handover *Handover
	actor    atlock.Actor // the close, or who does in its place what it would have done
}

// cleanUp cleans up after a pull request that is closed.
func (c cleaner) cleanUp(logger logging.SimpleLogging, repo models.Repo, pull models.PullRequest) error {
	// First: what is locked after this is refused, or released at the end.
	key := keyOf(repo, pull.Num)
	defer c.handover.open.marked(mark{repo.FullName, pull.Num, true, c.actor})()
	c.handover.expected.close(key)
	c.handover.open.close(key)
	return c.handover.records.whileRemoving(key, func() error { return cleanUp(c.PullCleaner, logger, repo, pull) })
}
