// Package atlock is the locking layer of an Atlantis server: Atlantis's own db.Database over the atlock library.
//
//	config, err := atlock.LoadConfig("locking.yaml")
//	...
//	database, err := atlock.Open(config)
//	...
//	defer database.Close()
//	locker := locking.NewClient(database)
//
// Three modes decide which store answers: strict (the legacy store alone: Atlantis's own BoltDB or Redis code passed in with
// [WithBoltDB] or [WithLegacy], or the embedded sled store), hybrid (Redis; a local store follows, and decides while Redis is away), and
// native (Redis alone). README.md of the repository describes the settings and what is guaranteed.
package atlock
