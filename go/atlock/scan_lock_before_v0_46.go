//go:build atlantis_before_v0_46

package atlock

import "github.com/runatlantis/atlantis/server/events/models"

// scanLock leaves each lock to decode: the struct has other members in each of these releases.
func scanLock(string, *models.ProjectLock) bool { return false }
