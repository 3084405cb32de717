//go:build !atlantis_before_v0_42

package handover

import "github.com/runatlantis/atlantis/server/events"

// executableName is what people type in comments.
func executableName(stock *events.DefaultProjectLocker) string { return stock.ExecutableName }
