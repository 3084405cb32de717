package conformance

import (
	"errors"
	"fmt"
	"slices"
)

// Violation says that a database broke a promise, and how. All other errors of
// a behaviour mean that it could not be tried.
type Violation struct{ detail string }

// Error tells the broken promise.
func (v *Violation) Error() string { return v.detail }

// violated returns a *Violation.
func violated(format string, args ...any) error {
	return &Violation{detail: fmt.Sprintf(format, args...)}
}

func isViolation(err error) bool {
	var violation *Violation
	return errors.As(err, &violation)
}

// behaviour is one promise and the way to try it.
type behaviour struct {
	// name is a subtest's name, "topic/Promise".
	name string
	// guards is the defect which a violation is expected to be, if any.
	guards Defect
	// needs are the capabilities without which it cannot be tried.
	needs Capability
	// check returns nil, a *Violation, or another error.
	check func(*scene) error
}

// behaviours returns the whole suite.
func behaviours() []behaviour {
	return slices.Concat(
		tryLockBehaviours(),
		unlockBehaviours(),
		unlockByPullBehaviours(),
		listBehaviours(),
		valueBehaviours(),
		nameBehaviours(),
		collisionBehaviours(),
		corruptBehaviours(),
		commandBehaviours(),
		pullBehaviours(),
		restartBehaviours(),
		migrationBehaviours(),
		lifecycleBehaviours(),
		modelBehaviours(),
		raceBehaviours(),
		processBehaviours(),
	)
}

// verdict says what the outcome of a behaviour's check means for a subject:
// whether it is as expected, and why.
func (b behaviour) verdict(subject Subject, err error) (asExpected bool, why string) {
	known := b.guards != "" && subject.has(b.guards)
	switch {
	case err == nil && known:
		return false, fmt.Sprintf("the defect %s is listed but was not seen: if it is gone, take it off the list", b.guards)
	case err == nil:
		return true, ""
	case !isViolation(err):
		return false, fmt.Sprintf("could not be tried: %v", err)
	case known:
		return true, fmt.Sprintf("known defect %s: %v", b.guards, err)
	case b.guards != "":
		return false, fmt.Sprintf("promise broken (defect %s): %v", b.guards, err)
	default:
		return false, fmt.Sprintf("promise broken: %v", err)
	}
}
