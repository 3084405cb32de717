package web

import (
	"fmt"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

// Levels of what is shown, also the names of the page's styles.
const (
	good = "good"
	warn = "warn" // locks are granted, but not as they should be
	bad  = "bad"  // no lock is granted, or one was granted twice
)

// state is who decides now, in a few words for whoever is on call.
type state struct {
	Level    string
	Headline string
	Since    time.Time // zero: not known
	Because  []string
}

// decision tells who decides.
func decision(status atlock.Status, health atlock.Health) state {
	switch status.Mode {
	case "hybrid":
		return hybridDecision(status, health)
	case "native":
		if fault := faultOf(health.Enhanced); fault != "" {
			return state{Level: bad, Headline: "No lock is granted", Because: []string{"Redis does not answer: " + fault}}
		}
		return state{Level: good, Headline: "Redis decides", Because: []string{"Native mode: Redis alone, without a fallback."}}
	default:
		if fault := faultOf(health.Legacy); fault != "" {
			return state{Level: bad, Headline: "No lock is granted", Because: []string{"The lock store does not answer: " + fault}}
		}
		return state{Level: good, Headline: "Strict mode", Because: []string{"One store decides alone, without a fallback."}}
	}
}

func hybridDecision(status atlock.Status, health atlock.Health) state {
	var now state
	if status.Since != 0 {
		now.Since = status.Since.Time()
	}
	if status.FallbackActive {
		now.Because = append(now.Because, "Because: "+status.Cause)
		if status.Armed {
			now.Level, now.Headline = warn, "The local store decides"
		} else {
			now.Level, now.Headline = bad, "No lock is granted"
			now.Because = append(now.Because, "The local store must not decide: "+status.UnarmedBecause)
		}
	} else {
		now.Level, now.Headline = good, "Redis decides"
		if fault := faultOf(health.Enhanced); fault != "" {
			now.Level = warn
			now.Because = append(now.Because, "Redis did not answer its last probe: "+fault)
		}
		if status.Armed {
			now.Because = append(now.Because, "The local store follows, and decides if Redis fails.")
		} else {
			now.Level = warn
			now.Because = append(now.Because, "If Redis fails, no lock is granted: "+status.UnarmedBecause)
		}
		if last := len(status.Fallbacks) - 1; last >= 0 && status.Fallbacks[last].Recovery != nil {
			before := status.Fallbacks[last]
			length := before.Until.Time().Sub(before.Since.Time())
			now.Because = append(now.Because, fmt.Sprintf("Before, the local store decided for %s. Recovery: %s.", short(length), recoveryText(*before.Recovery)))
		}
	}
	if fault := faultOf(health.Legacy); fault != "" {
		now.Level = bad
		if status.FallbackActive {
			now.Headline = "No lock is granted"
		}
		now.Because = append(now.Because, "The local store does not work: "+fault)
	}
	if count := len(status.Conflicts); count > 0 {
		now.Level = bad
		now.Because = append([]string{fmt.Sprintf("%s granted to two pulls; see below.", counted(count, "lock was", "locks were"))}, now.Because...)
	}
	return now
}

// faultOf is what is wrong with a store that the mode uses; empty if nothing is.
func faultOf(store *atlock.StoreHealth) string {
	switch {
	case store == nil || store.Healthy:
		return ""
	case store.Error == "":
		return "no reason is known"
	default:
		return store.Error
	}
}

func counted(count int, one, more string) string {
	if count == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", count, more)
}
