// Package releases is the table of the releases of Atlantis that atlock is linked into: whoever adds one, or moves to a newer one,
// does it here, and `cargo test --test releases` names every other place that must follow.
package releases

import (
	"slices"

	"golang.org/x/mod/semver"
)

// Supported are the releases that `make atlantis` builds and `make test-releases` tries, the newest first. That is the one which
// go.mod requires: the code is compiled against its types, and `make atlantis` links it unless told otherwise.
var Supported = []string{"v0.47.1", "v0.46.0", "v0.42.0", "v0.40.0", "v0.28.5", "v0.27.0"}

// IsSupported tells whether a release is one of the table: any other one is untested.
func IsSupported(version string) bool { return slices.Contains(Supported, version) }

// borders are the releases with which Atlantis changed what this module's code is compiled against. Code for what was before one of them has
// its build tag; the newest release needs none. Between two supported releases it is not known which one made the change: the border is the
// release of which Atlantis's tags say so, or else the newer one of the two.
var borders = []struct{ release, tag string }{
	{"v0.46.0", "atlantis_before_v0_46"}, // UnlockIfOwnedByPull, who asks the Git host about a pull request, redis.Config
	{"v0.42.0", "atlantis_before_v0_42"}, // what people type in comments: --executable-name in the project locker
	{"v0.40.0", "atlantis_before_v0_40"}, // keys with the project's name, db.Database
	{"v0.28.0", "atlantis_before_v0_28"}, // the project's name in models.Project
}

// Tags are the build tags with which this module is compiled against a release.
func Tags(version string) []string {
	var tags []string
	for _, border := range borders {
		if semver.Compare(version, border.release) < 0 {
			tags = append(tags, border.tag)
		}
	}
	return tags
}
