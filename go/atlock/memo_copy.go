//go:build !atlantis_before_v0_40

package atlock

import (
	"slices"

	"github.com/runatlantis/atlantis/server/events/models"
)

// copied is a copy that its owner may change. Nothing but the teams could be shared; a test looks at the type.
func copied(lock *models.ProjectLock) models.ProjectLock {
	other := *lock
	other.User.Teams = slices.Clone(lock.User.Teams)
	return other
}
