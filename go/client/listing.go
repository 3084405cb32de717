package client

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/atlock/atlock/go/internal/capi"
)

// Listing is a list of locks in memory of the library: ten thousand locks are some ten megabytes, and need not be copied to be read.
// Free it once; it must not be used afterwards. Until then any number of goroutines may read it at once.
type Listing struct {
	// Unreadable are the entries that the library does not take for locks. They stay as they are, and their keys stay taken.
	Unreadable []Unreadable
	// Incomplete says why there may be more locks than these; it is empty if these are all.
	Incomplete string

	memory capi.Listing
}

// Unreadable is an entry that cannot be read as a lock.
type Unreadable struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

func newListing(memory capi.Listing) *Listing {
	listing := &Listing{memory: memory}
	listing.Unreadable, listing.Incomplete = besides(memory.Rest())
	return listing
}

// Len tells how many locks there are.
func (l *Listing) Len() int { return l.memory.Len() }

// Lock returns the JSON of lock i without copying it. It is gone after Free.
func (l *Listing) Lock(i int) json.RawMessage { return l.memory.Lock(i) }

// Free returns the memory. Freeing again is harmless.
func (l *Listing) Free() {
	if l != nil {
		l.memory.Free()
	}
}

// besides reads what stands behind the locks in a list's JSON, or all of a list without locks. What is not as expected is told as an
// entry without a key: the locks themselves are there all the same.
func besides(rest []byte) ([]Unreadable, string) {
	switch string(rest) {
	case `],"unreadable":[]}`, `{"locks":[],"unreadable":[]}`:
		return nil, ""
	}
	if members, behindLocks := bytes.CutPrefix(rest, []byte("],")); behindLocks {
		rest = append([]byte("{"), members...)
	}
	var beside struct {
		Unreadable []Unreadable `json:"unreadable"`
		Incomplete string       `json:"incomplete"`
	}
	if json.Unmarshal(rest, &beside) != nil {
		beside.Unreadable = append(beside.Unreadable, Unreadable{Reason: fmt.Sprintf("%d bytes behind the locks are not JSON", len(rest))})
	}
	return beside.Unreadable, beside.Incomplete
}
