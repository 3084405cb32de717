package web

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

// The tests look at what they have just changed in a store, behind the server's back.
func init() { keepFor = 0 }

// KeepFor keeps answers for so long, until the test ends.
func KeepFor(t testing.TB, long time.Duration) {
	old := keepFor
	keepFor = long
	t.Cleanup(func() { keepFor = old })
}

// SendWithin gives readers so long, until the test ends.
func SendWithin(t testing.TB, long time.Duration) {
	old := sendWithin
	sendWithin = long
	t.Cleanup(func() { sendWithin = old })
}

// Admitted is a handler behind a gate of its own.
func Admitted(handler http.Handler) http.Handler {
	return newGate(questionsAtOnce, mostWait).admitted(handler)
}

// Bounds of what is made and answered at once, and of a filter.
const (
	BuildsAtOnce    = buildsAtOnce
	QuestionsAtOnce = questionsAtOnce
	MostWait        = mostWait
	LongestFilter   = longestFilter
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
	Short              = short
)

// State is the head of the page: its level, its headline, and what follows.
func State(status atlock.Status, health atlock.Health) (level, headline string, because []string) {
	now := newState(status, health)
	return now.Level, now.Headline, now.Because
}

// LookEvery lets pages be told of changes so often, until the test ends.
func LookEvery(t testing.TB, often time.Duration) {
	old := lookEvery
	lookEvery = often
	t.Cleanup(func() { lookEvery = old })
}

// Looking is a number of what there is to see.
func Looking(database Database) func() uint64 {
	return (&watcher{database: database, history: newHistory()}).look
}

// Bounds of streams, and of what is shown of the audit trail.
const (
	MostStreams = mostStreams
	TrailBytes  = trailBytes
	MostEntries = mostEntries
)
