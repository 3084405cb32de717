// Package outside holds the tests of who depends on the Go module from a module of their own: they make a release as scripts/release-go
// makes it, serve it as a module proxy does, and type what docs/go.md says in another folder.
package outside
