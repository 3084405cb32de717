package atlock_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

const shadowSecret = "s3cr3t-t0ken"

// text is a log that several goroutines write.
type text struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (l *text) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.Buffer.Write(line)
}

func (l *text) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.Buffer.String()
}

// withShadow is strict mode on this database, with an embedded shadow in a folder.
func withShadow(t *testing.T, stock db.Database, folder string) (*atlock.Database, *text) {
	t.Helper()
	log := new(text)
	config := atlock.Config{Locking: atlock.Locking{
		Shadow: atlock.Shadow{Store: atlock.ShadowSled, DataDir: folder, Sample: atlock.Duration(20 * time.Millisecond)},
	}}
	database, err := atlock.Open(config, atlock.WithLegacy(stock), atlock.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Close() })
	return database, log
}

func newStock(t *testing.T) db.Database {
	t.Helper()
	stock, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return stock
}

func shadowLock(repo, path string, num int) models.ProjectLock {
	return models.ProjectLock{
		Project: models.NewProject(repo, path, ""), Workspace: "default", User: models.User{Username: fmt.Sprint("user", num)},
		Pull: models.PullRequest{Num: num, BaseRepo: models.Repo{FullName: repo, CloneURL: "https://x:" + shadowSecret + "@example.com/" + repo}},
		Time: time.Now(),
	}
}

// follows waits until the shadow has followed, and tells how it stands then.
func follows(t *testing.T, database *atlock.Database, is func(atlock.ShadowStatus) bool) atlock.ShadowStatus {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		status, err := database.Status()
		if err != nil || status.Shadow == nil {
			t.Fatalf("no shadow: %+v, %v", status, err)
		}
		if is(*status.Shadow) {
			return *status.Shadow
		}
		if time.Now().After(deadline) {
			t.Fatalf("a minute has passed, and the shadow stands like this: %+v", *status.Shadow)
		}
	}
}

func isInStep(s atlock.ShadowStatus) bool { return s.InStep && s.Waiting == 0 }

// Atlantis's own code answers, on its BoltDB file, and the shadow hears of each operation. What somebody else does to the file shows.
func TestShadowOfAtlantisOwnStore(t *testing.T) {
	stock, folder := newStock(t), filepath.Join(t.TempDir(), "shadow")
	held := shadowLock("acme/infra", "held", 1)
	_, _, err := stock.TryLock(held)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	database, log := withShadow(t, stock, folder)
	if status := follows(t, database, isInStep); status.Operations != 0 {
		t.Errorf("filling is nobody's operation: %+v", status)
	}
	status := everyOperation(t, database)
	// The first at the command and at the pull status have nothing to compare with, and stock does not tell what UpdateProjectStatus made.
	if status.Different != 0 || status.Same != 16 || status.Uncertain != 4 {
		t.Errorf("%+v", status)
	}

	// Behind the server's back.
	_, err = stock.Unlock(held.Project, held.Workspace)
	must(err)
	_, err = database.GetLock(held.Project, held.Workspace)
	must(err)
	status = follows(t, database, func(s atlock.ShadowStatus) bool { return s.Different == 1 && s.Waiting == 0 })
	key := models.GenerateLockKey(held.Project, held.Workspace)
	if d := status.Differences[0]; !strings.Contains(d.Key, key) || d.Decided != "nothing" || d.Shadow != "pull #1 of acme/infra" || d.Operation != "get_lock" {
		t.Errorf("%+v", d)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "the shadow would have decided otherwise"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing in the log: %s", log)
		}
	}
	metrics, err := database.Metrics()
	must(err)
	for _, wanted := range []string{
		`atlock_shadow_operations_total{operation="get_lock",result="different"} 1`, "atlock_shadow_in_step 1",
		`atlock_shadow_duration_seconds_count{operation="try_lock",store="decides"} 3`, "atlock_warnings 0",
	} {
		if !strings.Contains(metrics, wanted) {
			t.Errorf("%s lacks %s", metrics, wanted)
		}
	}
	if strings.Count(metrics, "# EOF\n") != 1 || !strings.HasSuffix(metrics, "# EOF\n") {
		t.Errorf("the end line is the last: %s", metrics)
	}
	if all := metrics + log.String() + fmt.Sprintf("%+v", status); strings.Contains(all, shadowSecret) || !strings.Contains(log.String(), key) {
		t.Errorf("a secret is told, or no key: %s", all)
	}
	must(database.Close())
	must(database.Close())
}

// everyOperation runs each once or more: 20 of them.
func everyOperation(t *testing.T, database *atlock.Database) atlock.ShadowStatus {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pull := models.PullRequest{Num: 2, HeadCommit: "abc", BaseRepo: models.Repo{FullName: "acme/infra", VCSHost: models.VCSHost{Hostname: "example.com"}}}
	a := shadowLock("acme/infra", "a", 2)
	for _, lock := range []models.ProjectLock{a, shadowLock("acme/infra", "b", 2), shadowLock("acme/infra", "a", 3)} {
		_, _, err := database.TryLock(lock)
		must(err)
	}
	_, err := database.GetLock(a.Project, a.Workspace)
	must(err)
	_, err = database.UnlockIfOwnedByPull(a.Project, a.Workspace, 7)
	must(err)
	_, err = database.Unlock(a.Project, a.Workspace)
	must(err)
	_, err = database.Unlock(a.Project, a.Workspace)
	must(err)
	_, err = database.List()
	must(err)
	follows(t, database, func(s atlock.ShadowStatus) bool { return s.Operations == 8 && s.Waiting == 0 })
	_, err = database.UnlockByPull("acme/infra", 2)
	must(err)
	for range 2 {
		_, _ = database.LockCommand(command.Apply, time.Now())
		_, err = database.CheckCommandLock(command.Apply)
		must(err)
	}
	must(database.UnlockCommand(command.Apply))
	_ = database.UnlockCommand(command.Apply)
	_, err = database.GetPullStatus(pull)
	must(err)
	_, err = database.UpdatePullWithResults(pull, []command.ProjectResult{{
		Command: command.Plan, RepoRelDir: "a", Workspace: "default", ProjectCommandOutput: command.ProjectCommandOutput{PlanSuccess: &models.PlanSuccess{}},
	}})
	must(err)
	must(database.UpdateProjectStatus(pull, "default", "a", models.AppliedPlanStatus))
	_, err = database.GetPullStatus(pull)
	must(err)
	must(database.DeletePullStatus(pull))
	return follows(t, database, func(s atlock.ShadowStatus) bool { return s.Operations == 20 && s.Waiting == 0 })
}

// Stock's UnlockByPull takes the locks of each repository whose name begins the same, too. A shadow shows that.
func TestShadowShowsStocksDefect(t *testing.T) {
	database, _ := withShadow(t, newStock(t), filepath.Join(t.TempDir(), "shadow"))
	follows(t, database, isInStep)
	for _, repo := range []string{"acme/infra", "acme/infrastructure"} {
		if _, _, err := database.TryLock(shadowLock(repo, "a", 1)); err != nil {
			t.Fatal(err)
		}
	}
	if locks, err := database.UnlockByPull("acme/infra", 1); len(locks) != 2 || err != nil {
		t.Fatalf("%v, %v", locks, err)
	}
	status := follows(t, database, func(s atlock.ShadowStatus) bool { return s.Operations == 3 && s.Waiting == 0 })
	if status.Different != 1 || !strings.Contains(status.Differences[0].Key, "acme/infrastructure") {
		t.Errorf("%+v", status)
	}
}

// Many callers at once: no difference is made up, and each operation is counted.
func TestShadowOfManyCallers(t *testing.T) {
	database, _ := withShadow(t, newStock(t), filepath.Join(t.TempDir(), "shadow"))
	follows(t, database, isInStep)
	seed := rand.Uint64()
	const callers, each = 4, 60
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			for range each {
				lock := shadowLock("acme/infra", string(rune('a'+random.IntN(3))), 1+random.IntN(3))
				switch random.IntN(4) { // stock's reads may panic beside a writer
				case 0, 1:
					_, _, _ = database.TryLock(lock)
				case 2:
					_, _ = database.Unlock(lock.Project, lock.Workspace)
				default:
					_, _ = database.UnlockByPull("acme/infra", lock.Pull.Num)
				}
			}
		})
	}
	all.Wait()
	if _, err := database.List(); err != nil {
		t.Fatal(err)
	}
	status := follows(t, database, func(s atlock.ShadowStatus) bool { return s.Operations == callers*each+1 && s.Waiting == 0 })
	if status.Different != 0 || status.Failed != 0 {
		t.Errorf("seed %d: %+v", seed, status)
	}
}

// A shadow that must not be one: the server answers as without it, and warns.
func TestShadowThatIsRefused(t *testing.T) {
	folder := t.TempDir()
	theirs, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: atlock.BackendSled, DataDir: folder}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := theirs.TryLock(shadowLock("acme/theirs", "a", 1)); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	database, _ := withShadow(t, newStock(t), folder)
	status := follows(t, database, func(s atlock.ShadowStatus) bool { return s.State == atlock.ShadowRefused })
	if !strings.Contains(status.Because, "has 1 locks or other entries that are not a shadow's") {
		t.Error(status.Because)
	}
	if acquired, _, err := database.TryLock(shadowLock("acme/infra", "a", 1)); !acquired || err != nil {
		t.Errorf("%v, %v", acquired, err)
	}
	if all, err := database.Status(); err != nil || len(all.Warnings) != 1 || !strings.Contains(all.Warnings[0], "compares nothing") {
		t.Errorf("%+v, %v", all, err)
	}
	config := atlock.Config{Locking: atlock.Locking{Shadow: atlock.Shadow{Store: atlock.ShadowSled}}}
	if _, err := atlock.Open(config, atlock.WithBoltDB(t.TempDir())); err == nil || !strings.Contains(err.Error(), "locking.shadow.data_dir is missing") {
		t.Error(err)
	}
}
