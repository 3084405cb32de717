//go:build atlantis_before_v0_40

package atlock

import "github.com/runatlantis/atlantis/server/events/models"

// copied is a copy that its owner may change: these releases have no member that could be shared.
func copied(lock *models.ProjectLock) models.ProjectLock { return *lock }
