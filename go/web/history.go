package web

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

const (
	// sampleEvery is the time between two looks at the health. In hybrid mode a look is free; in the others it asks the store.
	sampleEvery = 5 * time.Second
	// sampleCount looks are remembered: an hour.
	sampleCount = 720
)

// sample is the health at one moment.
type sample struct {
	at               time.Time
	enhanced, legacy measured
}

// measured is what a store's probe saw.
type measured struct {
	used, healthy bool
	millis        float64
}

// history remembers the health of the last hour, and the newest in full. Safe from any goroutine.
type history struct {
	mutex  sync.Mutex
	ring   []sample // at most sampleCount; the oldest is at next once it is full
	next   int
	newest *atlock.Health
}

func newHistory() *history { return &history{} }

// record looks at the health until the context ends.
func (h *history) record(ctx context.Context, database Database) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		health, err := database.Health()
		if err != nil {
			health = atlock.Health{State: atlock.Unhealthy, Headline: "No lock is granted: the locking layer does not answer", CircuitState: "unknown"}
		}
		h.add(time.Now(), cleanHealth(health))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (h *history) add(at time.Time, health atlock.Health) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.newest = &health
	taken := sample{at: at, enhanced: measure(health.Enhanced), legacy: measure(health.Legacy)}
	if len(h.ring) < sampleCount {
		h.ring = append(h.ring, taken)
		return
	}
	h.ring[h.next] = taken
	h.next = (h.next + 1) % sampleCount
}

func measure(store *atlock.StoreHealth) measured {
	if store == nil {
		return measured{}
	}
	return measured{used: true, healthy: store.Healthy, millis: store.ResponseTimeMS}
}

// samples are those remembered, the oldest first.
func (h *history) samples() []sample {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return slices.Concat(h.ring[h.next:], h.ring[:h.next])
}

// health is the newest; right after the start, before the first look has ended, it says that nothing is known.
func (h *history) health() atlock.Health {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.newest == nil {
		return atlock.Health{Overall: true, State: atlock.Healthy, Headline: "The stores were not asked yet", CircuitState: "unknown"}
	}
	return *h.newest
}
