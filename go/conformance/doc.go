// Package conformance is one behaviour suite for every release.Database of Atlantis:
// the stock BoltDB and Redis code as the reference, and every mode of atlock.
//
// Who needs it: whoever writes a db.Database of their own, or changes this one, and wants to know whether it behaves as stock's.
//
// # Plugging in a subject
//
// A subject says how to get a fresh store and what the store can do:
//
//	func TestMain(m *testing.M) { os.Exit(conformance.Main(m, openers)) }
//
//	func TestBoltDB(t *testing.T) {
//		conformance.Run(t, conformance.Subject{
//			Name:         "boltdb",
//			NewStore:     newStore, // func(t *testing.T) conformance.Store
//			Capabilities: conformance.Persistent,
//			Defects:      []conformance.Defect{conformance.UnlockByPullPrefix},
//		})
//	}
//
// Main is needed only by subjects that several processes may open at once.
//
// RunShared checks that two subjects on one storage respect each other.
//
// # Expected defects
//
// A behaviour is a function that returns nil when the database kept its promise
// and a *Violation when it broke it. A subject lists the Defects it is known to
// have. The behaviours that guard against a listed defect must be seen failing,
// all others must pass. So the suite reports a new defect, and also a defect
// that has gone: the list of defects is a tested statement. Only a *Violation
// counts as the defect; any other error (a broken connection, say) is always a
// failure.
//
// # Size and seed
//
// The environment variable ATLOCK_CONFORMANCE_ROUNDS sets the number of rounds
// of each race (default 200); ATLOCK_CONFORMANCE_SEED replays the random parts
// with the seed that an earlier run printed.
package conformance
