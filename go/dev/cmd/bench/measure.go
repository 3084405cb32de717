package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"time"
)

const (
	maxRounds = 2_000
	// calibrations and calibrationLimit bound the search for a subject's batch size.
	calibrations     = 5
	calibrationLimit = 50 * time.Millisecond
)

// measureSize measures all operations on all subjects with size locks stored.
func measureSize(ctx context.Context, s settings, work string, size int, random *rand.Rand) (results []result, err error) {
	fmt.Fprintf(os.Stderr, "%d locks: filling the stores\n", size)
	var sessions []*session
	defer func() {
		for _, session := range sessions {
			err = errors.Join(err, session.close())
		}
	}()
	for _, subject := range subjects {
		session, err := openSession(ctx, subject, work, size, s.seed)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, session)
	}
	for _, operation := range operations {
		series, err := measureOperation(ctx, operation, sessions, s.timePerOperation(size), s.minRounds, random)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", operation.name, err)
		}
		fmt.Fprintf(os.Stderr, "%d locks: %s, %d rounds\n", size, operation.name, len(series[0].rounds))
		results = append(results, summarize(operation, size, series)...)
	}
	return results, nil
}

// series is what one subject did in one operation.
type series struct {
	session *session
	batch   int         // calls in each batch
	rounds  [][]float64 // the figures of each round's batch
}

// measureOperation runs rounds until the time is up: in each, every subject does one batch, in an order that is shuffled
// anew. One round before them, to warm up, is not counted.
func measureOperation(ctx context.Context, o operation, sessions []*session, limit time.Duration, minRounds int, random *rand.Rand) ([]*series, error) {
	deadline := time.Now().Add(limit)
	all := make([]*series, len(sessions))
	for i, session := range sessions {
		batch, err := calibrate(o, session)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", session.subject.name, err)
		}
		all[i] = &series{session: session, batch: batch}
	}
	order := append([]*series(nil), all...)
	for round := -1; round < minRounds || (round < maxRounds && time.Now().Before(deadline)); round++ {
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, series := range order {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			figures, err := runBatch(o, series.session, series.batch)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				series.rounds = append(series.rounds, figures)
			}
		}
	}
	return all, nil
}

// calibrate finds how many calls fill a subject's share of a round, so that each gets about the same time.
func calibrate(o operation, s *session) (int, error) {
	fastest := time.Duration(1<<63 - 1)
	begin := time.Now()
	for i := 0; i < calibrations && time.Since(begin) < calibrationLimit; i++ {
		start := time.Now()
		if _, err := o.batch(s, 1); err != nil {
			return 0, err
		}
		fastest = min(fastest, time.Since(start))
	}
	return min(max(int(o.batchTime/fastest), 1), o.maxBatch), nil
}

// runBatch runs one batch on a heap without garbage, so that nobody collects what another left.
func runBatch(o operation, s *session, n int) ([]float64, error) {
	runtime.GC()
	figures, err := o.batch(s, n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.subject.name, err)
	}
	return figures, nil
}
