package atlock

import "errors"

// The errors of Atlantis's own stores, with their texts. Package client's are in client.go.
var (
	// ErrLockExists: the command's global lock is held already.
	ErrLockExists = errors.New("lock already exists")
	// ErrNoLock: there is no global lock of the command to release.
	ErrNoLock = errors.New("no lock exists")
	// ErrContended: a pull status was changed by others each time, many times in a row.
	ErrContended = errors.New("the pull status keeps changing")
)
