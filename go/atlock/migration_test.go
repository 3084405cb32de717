package atlock_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/bolthost"
	"github.com/atlock/atlock/go/internal/redistest"
)

// migrated runs a command, which must end with this status.
func migrated(t *testing.T, status int, args ...string) string {
	t.Helper()
	var out, remarks bytes.Buffer
	if got := atlock.MigrationCommand(args, &out, &remarks); got != status {
		t.Fatalf("%v: %d, not %d\n%s%s", args, got, status, &out, &remarks)
	}
	return out.String() + remarks.String()
}

// buckets are what stock has in a file, byte for byte.
func buckets(t *testing.T, dir string) map[string]string {
	t.Helper()
	file, err := bolt.Open(filepath.Join(dir, "atlantis.db"), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	must(t, err)
	defer file.Close()
	found := map[string]string{}
	must(t, file.View(func(tx *bolt.Tx) error {
		for _, name := range []string{"runLocks", "globalLocks", "pulls"} {
			err := tx.Bucket([]byte(name)).ForEach(func(key, value []byte) error {
				found[name+" "+string(key)] = string(value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return found
}

// A stock server's file goes to an embedded store and to Redis, from there to another file, which a stock server reads byte for byte; and no server
// opens what was left.
func TestAStockFileIsMovedAwayAndToAnotherFile(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	for name, between := range map[string]string{"embedded": "sled:" + filepath.Join(t.TempDir(), "locks"), "redis": "redis:" + server.Addr} {
		t.Run(name, func(t *testing.T) {
			dir, other := t.TempDir(), t.TempDir()
			withStock(t, dir, func(stock db.Database) {
				for i, path := range []string{".", "a/b", "o d\"d <&>\u2028"} {
					lock := models.ProjectLock{
						Project: models.NewProject("acme/infra", path, "p"), Workspace: "default", Time: time.Now(),
						Pull: models.PullRequest{Num: i + 1, BaseRepo: models.Repo{FullName: "acme/infra", VCSHost: models.VCSHost{Hostname: "h"}}},
					}
					if acquired, _, err := stock.TryLock(lock); err != nil || !acquired {
						t.Fatal(acquired, err)
					}
					_, err := stock.UpdatePullWithResults(lock.Pull, []command.ProjectResult{{RepoRelDir: path, Workspace: "default"}})
					must(t, err)
				}
				_, err := stock.LockCommand(command.Apply, time.Now())
				must(t, err)
			})
			before := buckets(t, dir)
			if len(before) != 7 {
				t.Fatalf("%v", before)
			}
			file, work := "boltdb:"+filepath.Join(dir, "atlantis.db"), t.TempDir()
			migrate := []string{"migrate", "--from", file, "--to", between, "--work", work, "--others-are-stopped"}
			migrated(t, 0, migrate...)
			if got := buckets(t, dir); !reflect.DeepEqual(got, before) {
				t.Fatalf("a plan changed the file: %v", got)
			}
			migrated(t, 0, append(migrate, "--execute")...)
			nobodyBegins(t, dir)

			next := t.TempDir()
			migrated(t, 0, "migrate", "--from", between, "--to", "boltdb:"+filepath.Join(other, "atlantis.db"), "--work", next, "--execute", "--others-are-stopped")
			if got := buckets(t, other); !reflect.DeepEqual(got, before) {
				t.Fatalf("%v\nnot\n%v", got, before)
			}
			withStock(t, other, func(stock db.Database) {
				if locks, err := stock.List(); err != nil || len(locks) != 3 {
					t.Fatal(locks, err)
				}
				if held, err := stock.CheckCommandLock(command.Apply); err != nil || held == nil {
					t.Fatal(held, err)
				}
				if _, err := stock.Unlock(models.NewProject("acme/infra", ".", "p"), "default"); err != nil {
					t.Fatal(err)
				}
			})
			// Back, and back.
			migrated(t, 0, "rollback", filepath.Join(next, "manifest.json"), "--others-are-stopped")
			nobodyBegins(t, other)
			migrated(t, 0, "rollback", filepath.Join(work, "manifest.json"), "--others-are-stopped")
			delete(before, "runLocks acme/infra/./default/p")
			if got := buckets(t, dir); !reflect.DeepEqual(got, before) {
				t.Fatalf("%v\nnot\n%v", got, before)
			}
		})
	}
}

// nobodyBegins: not stock, nor a linked server in any mode on that file; one with an embedded store begins.
func nobodyBegins(t *testing.T, dir string) {
	t.Helper()
	if _, err := boltdb.New(dir); err == nil || !strings.Contains(err.Error(), "invalid database") {
		t.Fatalf("stock: %v", err)
	}
	strict, native := atlock.Config{}, hybrid(t.TempDir())
	native.Locking.Enhanced.CompatibilityMode = "native"
	for name, config := range map[string]atlock.Config{"strict": strict, "hybrid": hybrid(t.TempDir()), "native": native} {
		if _, err := atlock.Open(config, atlock.WithBoltDB(dir)); !errors.Is(err, bolthost.ErrMoved) || !strings.Contains(err.Error(), "its locks were moved to") {
			t.Fatalf("%s: %v", name, err)
		}
	}
	embedded := atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}}
	database, err := atlock.Open(embedded, atlock.WithBoltDB(dir))
	must(t, err)
	closed(t, database)
}

func TestTheCommandsWords(t *testing.T) {
	if told := migrated(t, 0, "--help"); !strings.Contains(told, "Usage: atlantis locking") {
		t.Error(told)
	}
	if told := migrated(t, 2, "list"); !strings.Contains(told, "unrecognized subcommand") {
		t.Error(told)
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "atlantis.db"), bytes.Repeat([]byte("x"), 5000), 0o600))
	told := migrated(t, 1, "migrate", "--from", "boltdb:"+dir+"/atlantis.db", "--to", "sled:"+dir+"/locks", "--work", t.TempDir())
	if !strings.HasPrefix(told, "atlock: ") || !strings.Contains(told, "the file is damaged") {
		t.Error(told)
	}
}
