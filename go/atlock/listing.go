package atlock

import (
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

// locksPerWorker is the fewest locks for which another goroutine pays: decoding one takes about 5 µs.
const locksPerWorker = 100

// listing reads a list of locks; read gets the library's memory, which is gone afterwards.
func (l *library) listing(call func() (*client.Listing, error), read func(*client.Listing) []models.ProjectLock) ([]models.ProjectLock, error) {
	listing, err := call()
	if err != nil {
		return nil, transactionFailed(err)
	}
	defer listing.Free()
	return read(listing), nil
}

// listed reads all locks. The library's definition of a lock is Go's, but one lock that Go cannot read must never hide the others.
func (l *library) listed(listing *client.Listing) []models.ProjectLock {
	locks, faults := decodeLocks(listing, l.memo.decodeLock)
	unreadable := listing.Unreadable
	kept := locks[:0]
	for i := range locks {
		if fault, ok := faults[i]; ok {
			unreadable = append(unreadable, client.Unreadable{Key: keyOf(listing.Lock(i)), Reason: fault.Error()})
		} else {
			kept = append(kept, locks[i])
		}
	}
	l.reportIncomplete("List", listing.Incomplete)
	l.reportUnreadable("List", unreadable)
	return kept
}

// releasedByPull reads the locks that a call has released: all of them, as far as they can be read, because nothing is there to call
// again for.
func (l *library) releasedByPull(repo string, pullNum int, listing *client.Listing) []models.ProjectLock {
	// They are not going to be read again.
	once := func(text []byte, lock *models.ProjectLock) error { return decodeLock(string(text), lock) }
	locks, faults := decodeLocks(listing, once)
	for i, fault := range faults {
		known := models.ProjectLock{Project: models.Project{RepoFullName: repo}, Pull: models.PullRequest{Num: pullNum}}
		locks[i] = l.salvaged("UnlockByPull", listing.Lock(i), known, fault)
	}
	l.reportIncomplete("UnlockByPull", listing.Incomplete)
	l.reportUnreadable("UnlockByPull", listing.Unreadable)
	return locks
}

// salvaged is a released lock that decode does not take: what is known of it, and what can be read.
func (l *library) salvaged(operation string, text []byte, known models.ProjectLock, fault error) models.ProjectLock {
	salvage(text, reflect.ValueOf(&known).Elem())
	l.logger.Warn("a lock was released, and Atlantis cannot read all of it: look whether its plan is still there",
		slog.String("operation", operation), slog.String("key", models.GenerateLockKey(known.Project, known.Workspace)),
		slog.Int("pull", known.Pull.Num), slog.String("error", fault.Error()))
	return known
}

// decodeLocks decodes on all cores, straight from the library's memory. The second answer is why, by their places, some locks cannot
// be read.
func decodeLocks(listing *client.Listing, decode func([]byte, *models.ProjectLock) error) ([]models.ProjectLock, map[int]error) {
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
				if err := decode(listing.Lock(i), &locks[i]); err != nil {
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

// reportIncomplete logs that there may be more locks than a list has.
func (l *library) reportIncomplete(operation, reason string) {
	if reason != "" {
		l.logger.Warn("the lock store told of some locks only, and there may be more",
			slog.String("operation", operation), slog.String("reason", reason))
	}
}

// reportUnreadable logs the entries that cannot be read, once for each set of them: Atlantis's page lists the locks every few
// seconds.
func (l *library) reportUnreadable(operation string, entries []client.Unreadable) {
	if len(entries) == 0 {
		l.unreadable.Store(nil)
		return
	}
	report := fmt.Sprintf("%q", entries)
	if last := l.unreadable.Swap(&report); last == nil || *last != report {
		l.logger.Warn("entries in the lock store cannot be read; they stay as they are, and their keys stay taken",
			slog.String("operation", operation), slog.Any("entries", entries))
	}
}
