package web_test

import (
	"fmt"
	"testing"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/web"
)

// manyLocks is what the page has to bear.
const manyLocks = 10_000

// lockMany takes 10,000 locks of the usual size.
func lockMany(t testing.TB, database database) {
	t.Helper()
	for i := range manyLocks {
		lock := newLock(fmt.Sprintf("acme/infra-%d", i%100), fmt.Sprintf("environments/%d/eu-west-1", i), i+1)
		lock.Pull.BaseRepo = models.Repo{FullName: lock.Project.RepoFullName, CloneURL: "https://bot:token@git.example.com/acme.git"}
		takeLock(t, database, lock)
	}
}

// The page stays small, however many locks there are.
func TestThePageIsSmallWithManyLocks(t *testing.T) {
	database := openSled(t)
	lockMany(t, database)
	served := serveAtlantis(t, database)
	for _, query := range []string{"", "?page=200", "?filter=environments"} {
		if text := must(t, served, web.PagePath+query); len(text) > 64<<10 {
			t.Errorf("%q: the page has %d bytes", query, len(text))
		}
	}
}

// BenchmarkPage asks for the page over HTTP, with 10,000 locks.
func BenchmarkPage(b *testing.B) {
	for name, open := range map[string]func() *atlock.Database{
		"strict-sled":   func() *atlock.Database { return openSled(b) },
		"strict-boltdb": func() *atlock.Database { return open(b, atlock.Config{}, atlock.WithBoltDB(b.TempDir())) },
		"hybrid":        func() *atlock.Database { return openHybrid(b, redistest.Start(b, redistest.Options{}).Addr) },
		"native":        func() *atlock.Database { return openNative(b, redistest.Start(b, redistest.Options{}).Addr) },
	} {
		b.Run(name, func(b *testing.B) {
			database := open()
			lockMany(b, database)
			for _, query := range []string{"", "?filter=infra-42"} {
				b.Run("query="+query, func(b *testing.B) {
					served := serveAtlantis(b, database)
					size := 0
					for b.Loop() {
						size = len(must(b, served, web.PagePath+query))
					}
					b.ReportMetric(float64(size)/1024, "KiB/page")
				})
			}
		})
	}
}
