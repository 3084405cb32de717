package atlock

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/atlock/atlock/go/client"
)

// operation is one of the library's operations, by the name that its metrics have.
type operation int

const (
	tryLock operation = iota
	unlock
	list
	getLock
	unlockByPull
	lockCommand
	unlockCommand
	checkCommandLock
	pullStatus
	swapPullStatus
	ping
	operationCount
)

var operationNames = [operationCount]string{"try_lock", "unlock", "list", "get_lock", "unlock_by_pull", "lock_command",
	"unlock_command", "check_command_lock", "pull_status", "swap_pull_status", "ping"}

// result is how an operation ended.
type result int

const (
	done result = iota
	refused
	failed
	resultCount
)

var resultNames = [resultCount]string{"ok", "refused", "error"}

// resultOf reads stock's error: the library answers a command lock that is held, or not there, without one.
func resultOf(err error) result {
	switch {
	case err == nil, strings.HasSuffix(err.Error(), ErrNoLock.Error()):
		return done
	case strings.HasSuffix(err.Error(), ErrLockExists.Error()):
		return refused
	default:
		return failed
	}
}

// counters are the library's metrics for operations that do not enter it.
type counters [operationCount][resultCount]atomic.Uint64

func (c *counters) total(result result) (total uint64) {
	for op := range c {
		total += c[op][result].Load()
	}
	return total
}

// text is in the library's format. Errors have the code of a store that is not the library's own.
func (c *counters) text(warnings int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# HELP atlock_info Always 1; the labels tell the library's version and mode.\n# TYPE atlock_info gauge\n"+
		"atlock_info{version=%q,mode=\"strict\"} 1\n", client.Version())
	text.WriteString("# HELP atlock_operations Operations by the store that answered and how they ended.\n# TYPE atlock_operations counter\n")
	for op, name := range operationNames {
		for result, ending := range resultNames {
			if grants := operation(op) == tryLock || operation(op) == lockCommand; grants || ending != "refused" {
				fmt.Fprintf(&text, "atlock_operations_total{operation=%q,store=\"legacy\",result=%q} %d\n", name, ending, c[op][result].Load())
			}
		}
	}
	fmt.Fprintf(&text, "# HELP atlock_errors Operations that ended with an error, by its code.\n# TYPE atlock_errors counter\n"+
		"atlock_errors_total{store=\"legacy\",code=\"host_store\"} %d\n", c.total(failed))
	fmt.Fprintf(&text, "# HELP atlock_warnings Conditions that endanger a promise; the status tells them.\n# TYPE atlock_warnings gauge\n"+
		"atlock_warnings %d\n# EOF\n", warnings)
	return text.String()
}
