// Package client is the atlock library for Go: locks go in and come out as JSON, in the form that Atlantis stores. The package
// knows nothing of Atlantis's code, so that it fits every Atlantis release, and programs that are no Atlantis.
//
// Who needs it: a program of your own that takes, lists or watches locks. Who has Atlantis's types at hand takes package atlock.
//
//	config, err := client.LoadConfig("locking.yaml")
//	...
//	locks, err := client.Open(config)
//	...
//	defer locks.Close()
//	grant, err := locks.TryLock([]byte(`{"Project":{"RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7},"Workspace":"default"}`))
//
// [Client.Lock] waits for a lock that is held; docs/waiting.md of the repository has the queue.
//
// Atlantis's own interface over this package is package atlock, which also has the rules for a start on Atlantis's stores: strict mode
// on them, and what is brought along when the mode changes. Here strict mode is the embedded store, or a host store ([WithHost]).
package client
