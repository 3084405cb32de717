package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/releases"
)

// What is laid into a release is new there, and each release gets what it lacks.
func TestAddedTo(t *testing.T) {
	const bolt, oldBolt, redis = "server/core/boltdb/atlock.go", "server/core/db/atlock.go", "server/core/redis/atlock.go"
	for version, want := range map[string][]string{
		"v0.47.1": nil, "v0.46.0": nil, "v0.42.0": {bolt, redis}, "v0.40.0": {bolt, redis}, "v0.27.0": {bolt, oldBolt, redis},
	} {
		files, err := addedTo(version)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range want {
			if text, found := files[file]; !found || !strings.HasPrefix(string(text), "// Laid here by go/cmd/link") {
				t.Errorf("%s lacks %s: it got %v", version, file, slices.Sorted(maps.Keys(files)))
			}
		}
		if want == nil && len(files) > 0 {
			t.Errorf("%s gets %v", version, slices.Sorted(maps.Keys(files)))
		}
	}
}

func TestAddedFilesReplaceNothing(t *testing.T) {
	release, err := download(releases.Supported[0])
	if err != nil {
		t.Fatal(err)
	}
	err = copyModule(release.Dir, t.TempDir(), editServer, map[string][]byte{"server/core/redis/redis.go": nil})
	if err == nil || !strings.Contains(err.Error(), "redis.go: expected no such file, found one") {
		t.Errorf("got %v", err)
	}
}
