package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/internal/release"
)

// Subject is one kind of database under test.
type Subject struct {
	// Name is the name of its subtest.
	Name string
	// NewStore returns a fresh, empty store. It is called once per behaviour,
	// one after the other; each store's database is closed before the next call.
	NewStore func(t *testing.T) Store
	// Capabilities say which behaviours apply, besides those that always do.
	Capabilities Capability
	// Defects are those that the subject is known to have.
	Defects []Defect
}

// Store is one place where locks are kept, with the code that opens it.
type Store struct {
	// Open opens the data that the place holds. The suite closes one database
	// before it opens the next, except for a Subject with ManyProcesses.
	Open func() (release.Database, error)
	// Raw reaches the stored bytes; set with RawBytes. The suite uses it only
	// while no database is open, so an implementation may open the files itself.
	Raw Raw
	// Spec opens the same place in another process; set with ManyProcesses.
	Spec Spec
}

// Spec says how another process opens a store.
type Spec struct {
	// Opener is the name, given to Main, of the function that opens it.
	Opener string
	// Address is the argument of that function.
	Address string
}

// Opener opens the store at an address of its own format.
type Opener func(address string) (release.Database, error)

// Capability is a set of things that a subject can do.
type Capability uint

const (
	// Persistent: what is stored is there when the store is opened again.
	Persistent Capability = 1 << iota
	// RawBytes: Store.Raw is set.
	RawBytes
	// ForeignKeys: other programs may keep keys in the same storage, and
	// Store.Raw can write them. Needs RawBytes.
	ForeignKeys
	// ManyProcesses: the store may be open in several processes at once, and
	// Store.Spec is set.
	ManyProcesses
	// CloseIsSafe: Close may be called twice and at any time; calls after it
	// return an error.
	CloseIsSafe
	// StableReads: what List and GetLock return is not read from memory that a
	// writer may be changing. Stock's BoltDB reads its memory map after the
	// transaction, and now and then panics when a writer comes in between.
	StableReads
)

var capabilityNames = []string{"Persistent", "RawBytes", "ForeignKeys", "ManyProcesses", "CloseIsSafe", "StableReads"}

func (c Capability) has(all Capability) bool { return c&all == all }

// String names them for a test's log.
func (c Capability) String() string {
	var names []string
	for i, name := range capabilityNames {
		if c.has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// Raw reads and writes the bytes of a store, past the database.
type Raw interface {
	// Get returns the value of a key, and whether there is one.
	Get(table Table, key string) (value []byte, found bool, err error)
	// Put sets the value of a key.
	Put(table Table, key string, value []byte) error
}

// Table is a part of a store. Each implementation of Raw knows where its
// storage keeps it: a bucket in BoltDB, a prefix in Redis.
type Table int

const (
	// Locks holds project locks under models.GenerateLockKey.
	Locks Table = iota
	// Commands holds command locks under the command's name.
	Commands
	// Pulls holds pull statuses under "{hostname}::{repo}::{number}".
	Pulls
	// Foreign is the storage's whole key space, under literal keys.
	Foreign
)

func (s Subject) has(defect Defect) bool { return slices.Contains(s.Defects, defect) }
