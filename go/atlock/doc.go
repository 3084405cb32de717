// Package atlock is the locking layer of an Atlantis server: Atlantis's own db.Database over the atlock library.
//
// Who needs it: whoever builds an Atlantis, or a program on Atlantis's Go code, that takes locks. A program that knows nothing of Atlantis
// takes package client.
//
//	config, err := atlock.LoadConfig("locking.yaml")
//	...
//	database, err := atlock.Open(config)
//	...
//	defer database.Close()
//	locker := locking.NewClient(database)
//
// The mode decides which store answers:
//
//   - strict: the legacy store alone. It is Atlantis's own BoltDB or Redis code, passed in with [WithBoltDB] or [WithLegacy] and called
//     directly, or the embedded sled store.
//   - hybrid: Redis. A local store follows it, and decides in its place while Redis is away.
//   - native: Redis alone.
//
// [Open] brings along what was held in the mode before, or says why it cannot. Only a program that opens stock's Redis code itself has a
// step of its own to make: [HandOverToRedis].
//
// [Database.Enhanced] and [Database.For] take locks for which they wait, in the order of a queue if the settings have one; docs/waiting.md
// of the repository says what that is. A wait ends with the lock, or out of the queue:
//
//	lock, err := database.Enhanced().LockWithTimeout(atlock.WithPull(ctx, pull), project, "default", user, time.Minute)
//	var waiting *atlock.Waiting
//	if errors.As(err, &waiting) {
//		fmt.Println(waiting.Position, waiting.Holder.Pull.Num)
//	}
//
// Settings, state and errors are those of package client, the library without Atlantis's code, and have their names here, too. docs/go.md
// of the repository leads to the settings and to what is guaranteed.
package atlock
