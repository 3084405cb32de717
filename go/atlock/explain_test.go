package atlock_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// lookingForCircles is the embedded store with a queue, in which a circle counts at once.
func lookingForCircles(t *testing.T) *atlock.Database {
	t.Helper()
	config := settingsWithQueue(t)
	config.Locking.Enhanced.DeadlockDetection = atlock.DeadlockDetection{
		Enabled: true, Resolve: atlock.ResolveYield, Confirm: atlock.Duration(100 * time.Millisecond),
	}
	database, err := atlock.Open(config)
	must(t, err)
	t.Cleanup(func() { closed(t, database) })
	return database
}

func (d asking) waits(num int, path string) {
	d.t.Helper()
	run, err := d.For(pullRequest(num)).Begin(atlock.RunPlan)
	must(d.t, err)
	grant, err := run.TryLock(named(path).Project, workspace, user)
	if err != nil || grant.Acquired {
		d.t.Fatalf("pull %d was to be refused: %+v, %v", num, grant, err)
	}
	_, err = run.End()
	must(d.t, err)
}

type asking struct {
	*atlock.Database
	t *testing.T
}

// All that is told of a lock, a holder, who waits, a freeze and a circle arrives in Go's types.
func TestExplainTellsWhoHoldsAndWhoWaits(t *testing.T) {
	database := asking{lookingForCircles(t), t}
	held, err := database.For(pullRequest(1)).Lock(t.Context(), project, workspace, user, atlock.PriorityNormal, 0)
	must(t, err)
	database.waits(2, "network")

	explained, err := database.Explain(key)
	must(t, err)
	holder := explained.Holder
	if explained.Key != key || explained.State != atlock.StateHeld || explained.Store == "" || explained.Stale || holder == nil {
		t.Fatalf("%+v", explained)
	}
	if holder.Pull.Num != 1 || holder.User != "ada" || holder.URL != "https://git.example.com/1" || holder.Token != held.Token || holder.Since == "" {
		t.Errorf("the holder is %+v", holder)
	}
	if len(explained.Queue) != 1 || explained.Queue[0].Pull.Num != 2 || explained.Queue[0].Since == 0 || explained.Queue[0].ReservedUntil != nil {
		t.Errorf("the queue is %+v", explained.Queue)
	}
	if len(explained.BlockedBy) == 0 || explained.BlockedBy[0].Kind != "lock" || explained.BlockedBy[0].Who != "#1" || len(explained.FreesIt) < 3 {
		t.Errorf("%+v, %q", explained.BlockedBy, explained.FreesIt)
	}
	for num, wanted := range map[int]string{1: key, 2: key, 3: ""} {
		var keys []string
		all, err := database.ExplainPull("acme/infra", atlock.PullID{Num: num})
		must(t, err)
		for _, one := range all {
			keys = append(keys, one.Key)
		}
		if strings.Join(keys, " ") != wanted {
			t.Errorf("pull %d: %q, not %q", num, keys, wanted)
		}
	}

	_, err = database.For(pullRequest(1)).Unlock(key)
	must(t, err)
	explained, err = database.Explain(key)
	if err != nil || explained.State != atlock.StateReserved || len(explained.Queue) != 1 || explained.Queue[0].ReservedUntil == nil {
		t.Errorf("kept for pull 2: %+v, %v", explained, err)
	}
	if left, err := database.Leave("acme/infra", atlock.PullID{Num: 2}, key); err != nil || left != 1 {
		t.Errorf("left %d, %v", left, err)
	}
	if explained, err = database.Explain(key); err != nil || explained.State != atlock.StateFree || explained.Holder != nil {
		t.Errorf("nobody wants it: %+v, %v", explained, err)
	}
}

func TestFreezesInGosTypes(t *testing.T) {
	database := lookingForCircles(t)
	if freezes, err := database.Freezes(); err != nil || freezes == nil || len(freezes) != 0 {
		t.Errorf("none: %v, %v", freezes, err)
	}
	named, until := "", atlock.UnixMicro(time.Now().Add(time.Hour).UnixMicro())
	request := atlock.FreezeRequest{
		Pattern: atlock.FreezePattern{Repo: "acme/infra", Path: "net*", Project: &named}, Reason: "audit", Owner: "grace", Until: &until,
	}
	frozen, err := database.Freeze(request)
	must(t, err)
	if frozen.ID == "" || frozen.Reason != "audit" || frozen.Owner != "grace" || frozen.Until == nil || *frozen.Until != until || frozen.From == 0 {
		t.Errorf("%+v", frozen)
	}
	pattern := frozen.Pattern
	if pattern.Path != "net*" || pattern.Workspace != "*" || pattern.Project == nil || *pattern.Project != "" || frozen.Plans != atlock.FreezePlansDeny {
		t.Errorf("%+v", frozen)
	}
	if _, _, err := database.TryLock(lockOf("network", 1)); !errors.Is(err, atlock.ErrFrozen) {
		t.Errorf("a frozen lock: %v", err)
	}
	if explained, err := database.Explain(key); err != nil || explained.State != atlock.StateFrozen || explained.BlockedBy[0].Who != "grace" {
		t.Errorf("%+v, %v", explained, err)
	}
	if freezes, err := database.Freezes(); err != nil || len(freezes) != 1 || freezes[0].ID != frozen.ID {
		t.Errorf("%+v, %v", freezes, err)
	}
	if thawed, err := database.Thaw(frozen.ID); err != nil || thawed == nil || thawed.ID != frozen.ID {
		t.Errorf("%+v, %v", thawed, err)
	}
	if thawed, err := database.Thaw(frozen.ID); err != nil || thawed != nil {
		t.Errorf("thawed again: %+v, %v", thawed, err)
	}
	take(t, database, "network", 1)

	for what, wrong := range map[string]atlock.FreezeRequest{
		"no end":    {Pattern: request.Pattern, Reason: "r", Owner: "o"},
		"two ends":  {Pattern: request.Pattern, Reason: "r", Owner: "o", Until: &until, OpenEnded: true},
		"no owner":  {Pattern: request.Pattern, Reason: "r", OpenEnded: true},
		"no reason": {Pattern: request.Pattern, Owner: "o", OpenEnded: true},
		"no repo":   {Reason: "r", Owner: "o", OpenEnded: true},
	} {
		if _, err := database.Freeze(wrong); !errors.Is(err, atlock.ErrInvalidArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Two pulls hold what the other wants; one of them yields.
func TestACircleIsToldAndEnded(t *testing.T) {
	database := asking{lookingForCircles(t), t}
	for num, path := range map[int]string{1: "a", 2: "b"} {
		_, err := database.For(pullRequest(num)).Lock(t.Context(), named(path).Project, workspace, user, atlock.PriorityNormal, 0)
		must(t, err)
	}
	database.waits(1, "b")
	database.waits(2, "a")
	var circles []atlock.Deadlock
	eventually(t, "the circle", func() bool {
		var err error
		circles, err = database.Deadlocks()
		return err == nil && len(circles) == 1
	})
	circle := circles[0]
	slices.Sort(circle.Keys)
	if circle.ID == "" || circle.Kind != "held" || circle.Repo != "acme/infra" || len(circle.Pulls) != 2 || circle.Since == 0 || circle.Suggestion == "" ||
		circle.Victim == nil || !slices.Equal(circle.Keys, []string{"acme/infra/a/default/", "acme/infra/b/default/"}) {
		t.Fatalf("%+v", circle)
	}
	if explained, err := database.Explain("acme/infra/a/default/"); err != nil || explained.Deadlock != circle.ID {
		t.Errorf("%+v, %v", explained, err)
	}
	if untold, err := database.TellDeadlock(circle.ID); err != nil || !slices.Equal(untold, circle.Rank) || len(untold) != 2 {
		t.Errorf("%+v, %v", untold, err)
	}
	if untold, err := database.TellDeadlock(circle.ID); err != nil || len(untold) != 0 {
		t.Errorf("told twice: %+v, %v", untold, err)
	}
	if yielded, err := database.EndDeadlock(circle.ID, nil); err != nil || yielded != nil {
		t.Errorf("nothing is known of any pull, and %+v yielded, %v", yielded, err)
	}
	standings := []atlock.Standing{{Pull: circle.Pulls[0]}, {Pull: circle.Pulls[1]}}
	yielded, err := database.EndDeadlock(circle.ID, standings)
	if err != nil || yielded == nil || yielded.Pull != *circle.Victim || len(yielded.Released) != 1 || yielded.ID != circle.ID {
		t.Fatalf("%+v, %v", yielded, err)
	}
	if _, err := database.EndDeadlock(circle.ID, standings); !errors.Is(err, atlock.ErrInvalidArgument) {
		t.Errorf("a circle that is over: %v", err)
	}
}

// A grant is checked by the lock's key alone, also where the repository is in a subgroup, which the key does not tell.
func TestCheckByKey(t *testing.T) {
	database, err := atlock.Open(settingsWithQueue(t))
	must(t, err)
	defer closed(t, database)
	lock := lockOf("network", 7)
	lock.Project.RepoFullName = "group/sub/infra"
	_, _, token, err := database.TryLockWithToken(lock)
	must(t, err)
	const key = "group/sub/infra/network/default/"
	for _, c := range []struct {
		key   string
		pull  int
		token atlock.FencingToken
		holds bool
	}{{key, 7, token, true}, {key, 7, atlock.NoToken, true}, {key, 7, token + 1, false}, {key, 8, token, false}, {"group/sub/infra/other/default/", 7, token, false}} {
		checked, err := database.CheckKey(c.key, atlock.PullID{Num: c.pull}, c.token)
		if err != nil || checked.Holds != c.holds {
			t.Errorf("%+v: %+v, %v", c, checked, err)
		}
	}
	if _, err := database.CheckKey("no key", atlock.PullID{Num: 7}, 0); err == nil {
		t.Error("no key is checked")
	}
}

// Atlantis's own store says of the holder what the library says, word for word, and of all else that there is no queue.
func TestExplainOnAtlantissOwnStore(t *testing.T) {
	queued, err := atlock.Open(settingsWithQueue(t))
	must(t, err)
	defer closed(t, queued)
	stock, err := atlock.Open(atlock.Config{}, atlock.WithBoltDB(t.TempDir()))
	must(t, err)
	defer closed(t, stock)
	lock := lockOf("network", 7)
	lock.Time, lock.User, lock.Pull.URL = time.Now().Add(-time.Minute).UTC().Truncate(time.Second), models.User{Username: "ada"}, "https://git.example.com/7"
	for _, database := range []*atlock.Database{queued, stock} {
		_, _, err := database.TryLock(lock)
		must(t, err)
	}
	for _, asked := range []string{key, "acme/infra/free/default/"} {
		wanted, err := queued.Explain(asked)
		must(t, err)
		got, err := stock.Explain(asked)
		must(t, err)
		if wanted.Holder != nil {
			wanted.Holder.Token = atlock.NoToken
			if got.Holder == nil || *got.Holder != *wanted.Holder {
				t.Errorf("the holder is %+v, not %+v", got.Holder, wanted.Holder)
			}
		}
		if got.State != wanted.State || got.Store != wanted.Store || !slices.Equal(got.BlockedBy, wanted.BlockedBy) || !slices.Equal(got.FreesIt, wanted.FreesIt) {
			t.Errorf("%+v, not %+v", got, wanted)
		}
	}
	if all, err := stock.ExplainPull("acme/infra", atlock.PullID{Num: 7}); err != nil || len(all) != 1 || all[0].Key != key {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := stock.ExplainPull("acme/infra", atlock.PullID{Num: 8}); err != nil || all == nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if checked, err := stock.CheckKey(key, atlock.PullID{Num: 7}, atlock.NoToken); err != nil || !checked.Holds {
		t.Errorf("%+v, %v", checked, err)
	}
	_, freezing := stock.Freeze(atlock.FreezeRequest{})
	_, thawing := stock.Thaw("1")
	_, reading := stock.Freezes()
	_, circles := stock.Deadlocks()
	_, telling := stock.TellDeadlock("1")
	_, ending := stock.EndDeadlock("1", nil)
	for i, err := range []error{freezing, thawing, reading, circles, telling, ending} {
		if !errors.Is(err, atlock.ErrQueueDisabled) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// What is kept for a set that waited for long is kept without an end: that is read, too.
func TestWhatIsKeptForASetHasNoEnd(t *testing.T) {
	config := settingsWithQueue(t)
	config.Locking.Enhanced.PriorityQueue.Sets = atlock.SetsWhole
	config.Locking.Enhanced.Timeouts.Default = atlock.Duration(time.Second)
	database, err := atlock.Open(config)
	must(t, err)
	defer closed(t, database)
	take(t, database, "a", 1)
	run, err := database.For(pullRequest(2)).Begin(atlock.RunPlan)
	must(t, err)
	must(t, run.Declare(user, named("a"), named("b")))
	if grant, err := run.TryLock(named("b").Project, workspace, user); err != nil || grant.Acquired {
		t.Fatalf("%+v, %v", grant, err)
	}
	_, err = run.End()
	must(t, err)
	eventually(t, "b is kept", func() bool {
		queues, err := database.Queues("acme/infra")
		must(t, err)
		until := queues["acme/infra"][0].Keys["acme/infra/b/default/"].ReservedUntil
		return until != nil && *until == atlock.Forever
	})
	explained, err := database.Explain("acme/infra/b/default/")
	if err != nil || *explained.Queue[0].ReservedUntil != atlock.Forever {
		t.Errorf("%+v, %v", explained, err)
	}
}
