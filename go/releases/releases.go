// Package releases is the table of the releases of Atlantis that atlock is linked into: whoever adds one, or moves to a newer one,
// does it here, and `cargo test --test releases` names every other place that must follow.
package releases

// Supported are the releases that `make atlantis` builds and `make test-e2e` tries, the newest first. That is the one which
// go.mod requires: the code is compiled against its types, and `make atlantis` links it unless told otherwise.
var Supported = []string{"v0.47.1", "v0.46.0"}
