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

// state is the head of the page: the library's own headline, and what it tells beside that. Nothing is decided here.
type state struct {
	Level    string
	Headline string
	Since    time.Time // zero: not known
	Because  []string
}

func newState(status atlock.Status, health atlock.Health) state {
	now := state{Level: levelOf(health), Headline: health.Headline}
	if status.Since != 0 {
		now.Since = status.Since.Time()
	}
	tell := func(format, text string) {
		if text != "" {
			now.Because = append(now.Because, fmt.Sprintf(format, text))
		}
	}
	tell("Because: %s", status.Cause)
	if status.FallbackActive {
		tell("The local store must not decide: %s", status.UnarmedBecause)
	} else {
		tell("Redis: %s", faultOf(health.Enhanced))
		tell("If Redis fails, no lock is granted: %s", status.UnarmedBecause)
		tell("Before, the local store decided for %s.", lastFallback(status.Fallbacks))
	}
	tell(localName(status.Mode)+": %s", faultOf(health.Legacy))
	return now
}

func levelOf(health atlock.Health) string {
	switch health.State {
	case atlock.Healthy:
		return good
	case atlock.Unhealthy:
		return bad
	default:
		return warn
	}
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

// lastFallback is how long the last fallback was that has ended, and how it ended; empty if there was none.
func lastFallback(fallbacks []atlock.Fallback) string {
	if len(fallbacks) == 0 || fallbacks[len(fallbacks)-1].Recovery == nil {
		return ""
	}
	last := fallbacks[len(fallbacks)-1]
	return fmt.Sprintf("%s. Recovery: %s", short(last.Until.Time().Sub(last.Since.Time())), recoveryText(*last.Recovery))
}

func counted(count int, one, more string) string {
	if count == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", count, more)
}
