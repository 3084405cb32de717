//go:build atlantis_before_v0_42

package handover

import "github.com/runatlantis/atlantis/server/events"

// executableName is what people type in comments: these releases have it in their texts as it is.
func executableName(*events.DefaultProjectLocker) string { return "atlantis" }
