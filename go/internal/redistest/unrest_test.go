package redistest

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// pausing draws the largest number, which chooses a pause each time, and the shorter of the two ranges of times.
type pausing struct{}

func (pausing) Uint64() uint64 { return math.MaxUint64 }

// Whatever is drawn, the first disturbance is a kill: who asks for unrest has tested nothing without one.
func TestUnrestBeginsWithAKill(t *testing.T) {
	server := Start(t, Options{AppendOnly: true})
	unrest := server.Disturb(t, rand.New(pausing{}))
	kills := 0
	for deadline := time.Now().Add(10 * time.Second); kills == 0; time.Sleep(20 * time.Millisecond) {
		unrest.Calm(func() { kills = unrest.kills })
		if time.Now().After(deadline) {
			t.Fatal("it was never killed")
		}
	}
}
