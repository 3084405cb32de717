package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
)

// operationName is how the report calls an operation.
type operationName string

const (
	tryLockFree  operationName = "TryLock, free key"
	tryLockHeld  operationName = "TryLock, held key"
	getLock      operationName = "GetLock"
	unlock       operationName = "Unlock"
	list         operationName = "List"
	unlockByPull operationName = "UnlockByPull, 5 locks"
	pairs        operationName = "lock+unlock, 16 goroutines"
)

// unit says what figures are.
type unit string

const (
	nanoseconds    unit = "ns"      // of one call; lower is better
	pairsPerSecond unit = "pairs/s" // of all goroutines together; higher is better
	megabytes      unit = "MB"      // 10^6 bytes of memory; lower is better
)

// operation is one row of the report.
type operation struct {
	name operationName
	unit unit
	// batch does the operation n times and returns its figures: one for each call, or one for the batch. Whatever it adds to
	// the store it takes out again.
	batch func(s *session, n int) ([]float64, error)
	// batchTime is how long a batch should take, and maxBatch bounds it.
	batchTime time.Duration
	maxBatch  int
}

var operations = []operation{
	oneByOne(tryLockFree, timeTryLockFree),
	oneByOne(tryLockHeld, timeTryLockHeld),
	oneByOne(getLock, timeGetLock),
	oneByOne(unlock, timeUnlock),
	oneByOne(list, timeList),
	oneByOne(unlockByPull, timeUnlockByPull),
	{name: pairs, unit: pairsPerSecond, batch: runPairs, batchTime: 100 * time.Millisecond, maxBatch: 200},
}

// oneByOne is an operation of one goroutine. Function once sets up, makes one call, checks the answer and tidies up; what it
// returns is the time of the call alone.
func oneByOne(name operationName, once func(*session) (time.Duration, error)) operation {
	batch := func(s *session, n int) ([]float64, error) {
		samples := make([]float64, n)
		for i := range samples {
			elapsed, err := once(s)
			if err != nil {
				return nil, err
			}
			samples[i] = float64(elapsed.Nanoseconds())
		}
		return samples, nil
	}
	return operation{name: name, unit: nanoseconds, batch: batch, batchTime: 20 * time.Millisecond, maxBatch: 25}
}

func timeTryLockFree(s *session) (time.Duration, error) {
	lock := s.fresh()
	start := time.Now()
	acquired, current, err := s.database.TryLock(lock)
	elapsed := time.Since(start)
	if err := errors.Join(err, granted(acquired, current, lock)); err != nil {
		return 0, err
	}
	return elapsed, release(s.database, lock)
}

func timeTryLockHeld(s *session) (time.Duration, error) {
	holder := s.anyStored()
	rival := rivalOf(holder)
	start := time.Now()
	acquired, current, err := s.database.TryLock(rival)
	elapsed := time.Since(start)
	if err == nil && acquired {
		err = fmt.Errorf("%s: held, but granted again", keyOf(holder))
	}
	return elapsed, errors.Join(err, same(&current, holder))
}

func timeGetLock(s *session) (time.Duration, error) {
	lock := s.anyStored()
	start := time.Now()
	got, err := s.database.GetLock(lock.Project, lock.Workspace)
	elapsed := time.Since(start)
	return elapsed, errors.Join(err, same(got, lock))
}

func timeUnlock(s *session) (time.Duration, error) {
	lock := s.fresh()
	if err := take(s.database, lock); err != nil {
		return 0, err
	}
	start := time.Now()
	released, err := s.database.Unlock(lock.Project, lock.Workspace)
	elapsed := time.Since(start)
	return elapsed, errors.Join(err, same(released, lock))
}

func timeList(s *session) (time.Duration, error) {
	start := time.Now()
	locks, err := s.database.List()
	elapsed := time.Since(start)
	return elapsed, errors.Join(err, sameSet(locks, s.size, storedLock))
}

func timeUnlockByPull(s *session) (time.Duration, error) {
	pull := s.freshPull()
	for _, lock := range pull {
		if err := take(s.database, lock); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	released, err := s.database.UnlockByPull(pull[0].Project.RepoFullName, pull[0].Pull.Num)
	elapsed := time.Since(start)
	return elapsed, errors.Join(err, sameSet(released, len(pull), func(i int) models.ProjectLock { return pull[i] }))
}

// sameSet tells an error if the locks are not exactly those that are expected, in any order.
func sameSet(got []models.ProjectLock, count int, want func(i int) models.ProjectLock) error {
	if len(got) != count {
		return fmt.Errorf("%d locks, expected %d", len(got), count)
	}
	byKey := make(map[string]*models.ProjectLock, count)
	for i := range got {
		byKey[keyOf(got[i])] = &got[i]
	}
	for i := range count {
		lock := want(i)
		if err := same(byKey[keyOf(lock)], lock); err != nil {
			return err
		}
	}
	return nil
}

// goroutines is how many lock and unlock at once, each its own keys.
const goroutines = 16

// runPairs lets each goroutine take and release a lock n times. The locks are made before the clock starts.
func runPairs(s *session, n int) ([]float64, error) {
	requests := make([][]models.ProjectLock, goroutines)
	for i := range requests {
		requests[i] = s.requestsOf(i, n)
	}
	errs := make([]error, goroutines)
	var group sync.WaitGroup
	start := time.Now()
	for i, locks := range requests {
		group.Go(func() { errs[i] = takeAndReleaseEach(s, locks) })
	}
	group.Wait()
	elapsed := time.Since(start)
	return []float64{float64(goroutines*n) / elapsed.Seconds()}, errors.Join(errs...)
}

// requestsOf are n requests for the few keys of one goroutine.
func (s *session) requestsOf(goroutine, n int) []models.ProjectLock {
	const keys = 8
	locks := make([]models.ProjectLock, n)
	for i := range locks {
		version := s.nextVersion()
		path := fmt.Sprintf("goroutine/%02d/%d", goroutine, i%keys)
		locks[i] = newLock(goroutine%repositories, path, firstFreshPull+version, version)
	}
	return locks
}

func takeAndReleaseEach(s *session, locks []models.ProjectLock) error {
	for _, lock := range locks {
		if err := take(s.database, lock); err != nil {
			return err
		}
		if err := release(s.database, lock); err != nil {
			return err
		}
	}
	return nil
}
