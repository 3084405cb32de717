package web

import (
	"context"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

// Record keeps a history until the context ends, and closes the channel then.
func Record(ctx context.Context, database Database) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		newHistory().record(ctx, database)
	}()
	return done
}

// RemembersOnlyTheNewest tells what is left of count samples, a second apart.
func RemembersOnlyTheNewest(count int) (length int, first, last time.Time) {
	history := newHistory()
	for i := range count {
		history.add(time.Unix(int64(i), 0), atlock.Health{})
	}
	samples := history.samples()
	return len(samples), samples[0].at, samples[len(samples)-1].at
}

// HistoryLimit is how many samples are kept.
const HistoryLimit = sampleCount

var (
	WithoutCredentials = withoutCredentials
	WebAddress         = webAddress
	PrometheusText     = prometheusText
	Short              = short
)

// State is the head of the page: its level, its headline, and what follows.
func State(status atlock.Status, health atlock.Health) (level, headline string, because []string) {
	now := newState(status, health)
	return now.Level, now.Headline, now.Because
}
