package atlock

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// locksPerWorker is the fewest locks for which another goroutine pays: decoding one takes about 5 µs.
const locksPerWorker = 100

// listing decodes a list of locks on all cores, straight from the library's memory.
func (c *core) listing(operation string, call func() (capi.Listing, error)) ([]models.ProjectLock, error) {
	var locks []models.ProjectLock
	err := c.slots.run(func() error {
		listing, err := call()
		if err != nil {
			return err
		}
		defer listing.Free()
		c.reportUnreadable(operation, &listing)
		locks, err = decodeLocks(&listing)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("DB transaction failed: %w", err)
	}
	return locks, nil
}

func decodeLocks(listing *capi.Listing) ([]models.ProjectLock, error) {
	count := listing.Len()
	if count == 0 {
		return nil, nil
	}
	locks := make([]models.ProjectLock, count)
	workers := min(runtime.GOMAXPROCS(0), count/locksPerWorker+1)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for i := count * worker / workers; i < count*(worker+1)/workers; i++ {
				if err := decodeLock(listing.Lock(i), &locks[i]); err != nil {
					errs[worker] = fmt.Errorf("failed to deserialize lock %d: %w", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return locks, nil
}

// reportUnreadable logs the entries that cannot be read, once for each set of them: Atlantis's page lists the locks every few
// seconds.
func (c *core) reportUnreadable(operation string, listing *capi.Listing) {
	const none = `],"unreadable":[]}`
	rest := listing.Rest()
	if len(rest) >= len(none) && string(rest[len(rest)-len(none):]) == none {
		c.unreadable.Store(nil)
		return
	}
	report := string(rest)
	if last := c.unreadable.Swap(&report); last == nil || *last != report {
		c.logger.Warn("entries in the lock store cannot be read; they stay as they are, and their keys stay taken",
			slog.String("operation", operation), slog.String("entries", report))
	}
}
