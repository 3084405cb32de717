package atlock

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/capi"
)

// The benchmarks of this file are the fixed costs of a call into the library: what an operation takes besides the store. A
// TryLock of a free key is one marshalled lock, one call and one decoded answer; GetLock and Unlock are one marshalled target,
// one call and one decoded lock.

// benchmarkLock is of the size of a real one: about 1.1 KB of JSON, most of it the pull's body and URLs.
func benchmarkLock() models.ProjectLock {
	const repo = "acme/infrastructure"
	return models.ProjectLock{
		Project:   models.Project{RepoFullName: repo, Path: "stacks/00042"},
		Workspace: "default",
		User:      models.User{Username: "reviewer"},
		Time:      time.Date(2025, time.March, 9, 1, 59, 58, 123456789, time.UTC),
		Pull: models.PullRequest{
			Num:        42,
			HeadCommit: "b1946ac92492d2347c6235b4d2611184b1946ac9",
			URL:        "https://git.example.com/" + repo + "/pull/42",
			HeadBranch: "change-42",
			BaseBranch: "main",
			Author:     "author",
			Body:       strings.Repeat("Raises the node pool's ceiling and moves the state bucket's replica. ", 4),
			BaseRepo: models.Repo{
				FullName:          repo,
				Owner:             "acme",
				Name:              "infrastructure",
				CloneURL:          "https://user:token@git.example.com/" + repo + ".git",
				SanitizedCloneURL: "https://user:<redacted>@git.example.com/" + repo + ".git",
				VCSHost:           models.VCSHost{Hostname: "git.example.com", Type: models.Gitea},
			},
		},
	}
}

// BenchmarkMarshalLock is paid by TryLock, here as in stock Atlantis.
func BenchmarkMarshalLock(b *testing.B) {
	lock := benchmarkLock()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(lock); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMarshalTarget is paid by GetLock and Unlock.
func BenchmarkMarshalTarget(b *testing.B) {
	lock := benchmarkLock()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := json.Marshal(target{Project: lock.Project, Workspace: lock.Workspace}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeLock is paid for every lock that is returned; stock's decoder is beside it.
func BenchmarkDecodeLock(b *testing.B) {
	value, err := json.Marshal(benchmarkLock())
	if err != nil {
		b.Fatal(err)
	}
	decoders := []struct {
		name   string
		decode func([]byte, any) error
	}{
		{"atlock", decode},
		{"stock", json.Unmarshal},
	}
	for _, decoder := range decoders {
		b.Run(decoder.name, func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				var lock models.ProjectLock
				if err := decoder.decode(value, &lock); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCgoCall is the way into the library and back: a call that does nothing there.
func BenchmarkCgoCall(b *testing.B) {
	for b.Loop() {
		if capi.Version() == "" {
			b.Fatal("no version")
		}
	}
}

// BenchmarkSmallestOperation is the fixed part of every operation: slot, closures, handle, panic guard, counters, a key that
// the store does not hold, and `null` to decode.
func BenchmarkSmallestOperation(b *testing.B) {
	database := openEmbedded(b)
	b.ReportAllocs()
	for b.Loop() {
		if lock, err := database.CheckCommandLock(command.Apply); lock != nil || err != nil {
			b.Fatal(lock, err)
		}
	}
}

// BenchmarkGetLock is a whole operation on a store of one lock: what it takes beyond the parts above is the store's.
func BenchmarkGetLock(b *testing.B) {
	database := openEmbedded(b)
	lock := benchmarkLock()
	if acquired, _, err := database.TryLock(lock); !acquired || err != nil {
		b.Fatal(acquired, err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got, err := database.GetLock(lock.Project, lock.Workspace); got == nil || err != nil {
			b.Fatal(got, err)
		}
	}
}

func openEmbedded(b *testing.B) *Database {
	b.Helper()
	database, err := Open(Config{Locking: Locking{Backend: "sled", DataDir: b.TempDir()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := database.Close(); err != nil {
			b.Error(err)
		}
	})
	return database
}
