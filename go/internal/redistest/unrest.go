package redistest

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Unrest kills, restarts and pauses a server again and again. The server should be AppendOnly: then it loses nothing that it
// acknowledged.
type Unrest struct {
	server *Server
	// mu is held while the server is away, and by those who need it up.
	mu      sync.Mutex
	end     sync.Once
	stop    chan struct{}
	stopped sync.WaitGroup
	kills   int
	away    []Away
}

// Away is a time for which the server did not answer.
type Away struct{ From, Until time.Time }

const (
	killShare    = 0.6 // of all disturbances but the first, which is a kill; the others are pauses
	calmShare    = 0.3 // of the times in between: long enough for those that turned away to come back
	shortestUp   = 300 * time.Millisecond
	longestUp    = 900 * time.Millisecond
	longestCalm  = 3 * time.Second
	shortestAway = 200 * time.Millisecond
	longestAway  = 700 * time.Millisecond
)

// Disturb begins. It ends with Stop, at the latest when the test ends; the server is up then. Nobody else may stop the server
// or signal it meanwhile.
func (s *Server) Disturb(t testing.TB, random *rand.Rand) *Unrest {
	u := &Unrest{server: s, stop: make(chan struct{})}
	u.stopped.Go(func() {
		for u.leavesAlone(random) {
			u.disturb(t, random)
		}
	})
	t.Cleanup(func() { u.Stop() })
	return u
}

// Calm acts while the server is up.
func (u *Unrest) Calm(act func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	act()
}

// Stop ends it, and tells how often the server was killed.
func (u *Unrest) Stop() (kills int) {
	u.end.Do(func() { close(u.stop) })
	u.stopped.Wait()
	return u.kills
}

// Away tells when the server was away; to be asked after Stop.
func (u *Unrest) Away() []Away { return u.away }

// leavesAlone lets the server be up for a while, and tells whether to go on.
func (u *Unrest) leavesAlone(random *rand.Rand) bool {
	if random.Float64() < calmShare {
		return u.waits(random, longestUp, longestCalm)
	}
	return u.waits(random, shortestUp, longestUp)
}

// disturb takes the server away once and brings it back.
func (u *Unrest) disturb(t testing.TB, random *rand.Rand) {
	u.mu.Lock()
	defer u.mu.Unlock()
	from := time.Now()
	defer func() { u.away = append(u.away, Away{from, time.Now()}) }()
	if random.Float64() < killShare || u.kills == 0 {
		u.kills++
		u.server.Kill()
		defer u.server.Restart(t)
	} else {
		u.server.Pause(t)
		defer u.server.Resume(t)
	}
	u.waits(random, shortestAway, longestAway)
}

// waits tells, after a random time, whether to go on.
func (u *Unrest) waits(random *rand.Rand, shortest, longest time.Duration) bool {
	select {
	case <-u.stop:
		return false
	case <-time.After(shortest + time.Duration(random.Int64N(int64(longest-shortest)))):
		return true
	}
}
