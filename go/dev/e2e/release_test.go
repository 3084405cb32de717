//go:build e2e

package e2e

import (
	"os"

	"golang.org/x/mod/semver"

	"github.com/atlock/atlock/go/releases"
)

// isBefore tells whether the release of Atlantis that is tried is older than this one. It is ATLOCK_E2E_RELEASE, or the newest of the table.
func isBefore(version string) bool {
	tried := os.Getenv("ATLOCK_E2E_RELEASE")
	if tried == "" {
		tried = releases.Supported[0]
	}
	return semver.Compare(tried, version) < 0
}

// keyIn is the key of the lock of a project's folder, of a project without a name: releases before v0.40 end it with the workspace.
func keyIn(repository, project string) string {
	key := repository + "/" + project + "/default"
	if isBefore("v0.40.0") {
		return key
	}
	return key + "/"
}
