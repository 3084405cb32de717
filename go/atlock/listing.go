package atlock

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// locksPerWorker is the fewest locks for which another goroutine pays: decoding one takes about 5 µs.
const locksPerWorker = 100

// listing reads a list of locks; read gets the library's memory, which is gone afterwards.
func (c *core) listing(call func() (capi.Listing, error), read func(listing *capi.Listing) []models.ProjectLock) ([]models.ProjectLock, error) {
	var locks []models.ProjectLock
	err := c.slots.run(func() error {
		listing, err := call()
		if err != nil {
			return err
		}
		defer listing.Free()
		locks = read(&listing)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	return locks, nil
}

// entry is one that cannot be read.
type entry struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// besides is what the library tells beside the locks.
type besides struct {
	Unreadable []entry `json:"unreadable"`
	Incomplete string  `json:"incomplete"`
}

// listed reads all locks. The library's definition of a lock is Go's, but one lock that Go cannot read must never hide the others.
func (c *core) listed(listing *capi.Listing) []models.ProjectLock {
	locks, faults := decodeLocks(listing)
	beside := c.beside("List", listing.Rest())
	kept := locks[:0]
	for i := range locks {
		if fault, ok := faults[i]; ok {
			beside.Unreadable = append(beside.Unreadable, entry{keyOf(listing.Lock(i)), fault.Error()})
		} else {
			kept = append(kept, locks[i])
		}
	}
	c.reportUnreadable("List", beside.Unreadable)
	return kept
}

// released reads the locks that a call has released: all of them, as far as they can be read, because nothing is there to call again
// for.
func (c *core) released(repo string, pullNum int, listing *capi.Listing) []models.ProjectLock {
	locks, faults := decodeLocks(listing)
	for i, fault := range faults {
		known := models.ProjectLock{Project: models.Project{RepoFullName: repo}, Pull: models.PullRequest{Num: pullNum}}
		locks[i] = c.salvaged("UnlockByPull", listing.Lock(i), known, fault)
	}
	c.reportUnreadable("UnlockByPull", c.beside("UnlockByPull", listing.Rest()).Unreadable)
	return locks
}

// salvaged is a released lock that decode does not take: what is known of it, and what can be read.
func (c *core) salvaged(operation string, text []byte, known models.ProjectLock, fault error) models.ProjectLock {
	salvage(text, reflect.ValueOf(&known).Elem())
	c.logger.Warn("a lock was released, and Atlantis cannot read all of it: look whether its plan is still there",
		slog.String("operation", operation), slog.String("key", models.GenerateLockKey(known.Project, known.Workspace)),
		slog.Int("pull", known.Pull.Num), slog.String("error", fault.Error()))
	return known
}

// decodeLocks decodes on all cores, straight from the library's memory. The second answer is why, by their places, some locks cannot
// be read.
func decodeLocks(listing *capi.Listing) ([]models.ProjectLock, map[int]error) {
	count := listing.Len()
	if count == 0 {
		return nil, nil
	}
	locks := make([]models.ProjectLock, count)
	faults := map[int]error{}
	var mutex sync.Mutex // of faults
	workers := min(runtime.GOMAXPROCS(0), count/locksPerWorker+1)
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for i := count * worker / workers; i < count*(worker+1)/workers; i++ {
				if err := decodeLock(listing.Lock(i), &locks[i]); err != nil {
					mutex.Lock()
					faults[i] = err
					mutex.Unlock()
				}
			}
		})
	}
	group.Wait()
	return locks, faults
}

// keyOf is the key of a lock, as far as it can be read.
func keyOf(text []byte) string {
	var lock models.ProjectLock
	salvage(text, reflect.ValueOf(&lock).Elem())
	return models.GenerateLockKey(lock.Project, lock.Workspace)
}

// beside reads what stands behind the locks in a list's JSON, or all of a list without locks, and says that there may be more of them.
func (c *core) beside(operation string, rest []byte) (beside besides) {
	if bytes.HasSuffix(rest, []byte(`],"unreadable":[]}`)) {
		return beside
	}
	if members, behindLocks := bytes.CutPrefix(rest, []byte("],")); behindLocks {
		rest = append([]byte("{"), members...)
	}
	if err := decode(rest, &beside); err != nil {
		beside.Unreadable = append(beside.Unreadable, entry{Reason: err.Error()})
	}
	if beside.Incomplete != "" {
		c.logger.Warn("the lock store told of some locks only, and there may be more",
			slog.String("operation", operation), slog.String("reason", beside.Incomplete))
	}
	return beside
}

// reportUnreadable logs the entries that cannot be read, once for each set of them: Atlantis's page lists the locks every few
// seconds.
func (c *core) reportUnreadable(operation string, entries []entry) {
	if len(entries) == 0 {
		c.unreadable.Store(nil)
		return
	}
	report := fmt.Sprintf("%q", entries)
	if last := c.unreadable.Swap(&report); last == nil || *last != report {
		c.logger.Warn("entries in the lock store cannot be read; they stay as they are, and their keys stay taken",
			slog.String("operation", operation), slog.Any("entries", entries))
	}
}
