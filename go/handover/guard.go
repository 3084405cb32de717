package handover

import (
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

// What the guard said, as `atlock_apply_guard_total` has it.
const (
	guardAllowed = "allowed" // the pull request holds the lock, by the grant of its plan
	guardRefused = "refused" // it does not
	guardFrozen  = "frozen"  // the project is frozen
	guardUnknown = "unknown" // that could not be found out, so that nothing was applied
)

// guardAnswers counts applies of projects that need their lock, or are frozen. With the guard off it stays at 0.
var guardAnswers = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "atlock_apply_guard_total", Help: "Applies of projects, by what the guard said of their locks.",
}, []string{"result"})

func init() {
	prometheus.MustRegister(guardAnswers)
	for _, result := range []string{guardAllowed, guardRefused, guardFrozen, guardUnknown} {
		guardAnswers.WithLabelValues(result) // so that the first one is an increase
	}
}

// guard says why a project must not be applied; empty if it may. Atlantis asks no locker before an apply of a project that it locks when it
// is planned: whoever has a plan file applies.
//
// A project whose mode is not known counts as one that is locked at its plan: when in doubt nobody applies. What is frozen is not applied,
// whenever it is locked.
func (h *Handover) guard(log logging.SimpleLogging, in *bracket, pull models.PullRequest, asked atlock.ProjectWorkspace) string {
	if !h.guarded.Load() || in.command != atlock.RunApply {
		return ""
	}
	key := lockKey(asked)
	result, reason := h.frozen(key)
	if mode, known := h.open.mode(in, key); reason == "" && (!known || mode == locksOnPlan) {
		result, reason = h.mayApply(pull, asked)
	}
	if result != "" {
		guardAnswers.WithLabelValues(result).Inc()
	}
	if reason != "" {
		log.Warn("refusing to apply %q of #%d: %s", key, pull.Num, reason)
		h.open.refuse(in, key)
	}
	return reason
}

// mayApply says why the pull request must not apply what it planned; empty if it may.
func (h *Handover) mayApply(pull models.PullRequest, asked atlock.ProjectWorkspace) (result, reason string) {
	checked, err := h.database.For(pull).Check(asked.Project, asked.Workspace, atlock.NoToken)
	if err != nil {
		return guardUnknown, h.words.unchecked(err)
	}
	if !checked.Holds {
		return guardRefused, h.words.lost(pull, checked.Holder)
	}
	kept, err := h.records.read(pull)
	if err != nil {
		return guardUnknown, h.words.unreadable(err)
	}
	// A plan without a token is from before the guard, or its grant had none.
	if token := kept.Tokens[lockKey(asked)]; token != atlock.NoToken && token != checked.Token {
		return guardRefused, h.words.otherGrant()
	}
	return guardAllowed, ""
}

// frozen says by which freeze the project must not be applied; empty if by none. Who holds a lock keeps it, and waits for the freeze's end.
func (h *Handover) frozen(key string) (result, reason string) {
	freezes, err := h.database.Freezes() // it also learns of those that another server made just now
	if errors.Is(err, atlock.ErrQueueDisabled) || err == nil && len(freezes) == 0 {
		return "", ""
	}
	var explained atlock.Explained
	if err == nil {
		explained, err = h.database.Explain(key)
	}
	if err != nil {
		return guardUnknown, h.words.unchecked(err)
	}
	at := slices.IndexFunc(explained.BlockedBy, func(by atlock.BlockedBy) bool { return by.Kind == "freeze" })
	if at < 0 {
		return "", ""
	}
	return guardFrozen, h.words.frozen(explained.BlockedBy[at].What)
}
