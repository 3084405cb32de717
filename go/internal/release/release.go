// Package release has what differs between the releases of Atlantis that this module is compiled against: one name for the same thing in
// each. A file whose name ends in _before_v0_46, for example, stands in for its sibling in releases before v0.46; go/releases has the build
// tags.
package release

import (
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/models"
)

// Database is db.Database as the newest release has it. Atlantis's own stores have these methods in each release: where the release does not
// bring them, go/cmd/link adds them.
type Database interface {
	db.Database
	Ping() error
	UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error)
}
