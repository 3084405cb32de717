package handover

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/atlock"
)

var update = flag.Bool("update", false, "write the golden texts")

// waitingCases are the places of a refusal, with stock's words before them.
var waitingCases = map[string]struct {
	replan atlock.Replan
	place  *atlock.Waiting
}{
	"next":            {"", &atlock.Waiting{Position: 1, Why: "held"}},
	"second":          {atlock.ReplanAuto, &atlock.Waiting{Position: 2, Ahead: pulls(7), Why: "held"}},
	"third":           {"", &atlock.Waiting{Position: 3, Ahead: pulls(7, 8), Why: "held"}},
	"many":            {"", &atlock.Waiting{Position: 23, Ahead: pulls(7, 8, 9, 10, 11, 12, 13, 14), Why: "held"}},
	"notify":          {atlock.ReplanNotify, &atlock.Waiting{Position: 2, Ahead: pulls(7), Why: "held"}},
	"off":             {atlock.ReplanOff, &atlock.Waiting{Position: 2, Ahead: pulls(7), Why: "held"}},
	"reserved":        {"", &atlock.Waiting{Position: 2, Ahead: pulls(7), Why: "reserved"}},
	"reserved-notify": {atlock.ReplanNotify, &atlock.Waiting{Position: 2, Ahead: pulls(7), Why: "reserved"}},
	"reserved-off":    {atlock.ReplanOff, &atlock.Waiting{Position: 2, Ahead: pulls(7), Why: "reserved"}},
	"set": {"", &atlock.Waiting{Position: 1, Why: "set", Blocker: &atlock.Blocker{
		Key: "acme/infra/db/default/", Pull: &atlock.PullID{Num: 1},
	}}},
	"set-workspace": {"", &atlock.Waiting{Position: 1, Why: "set", Blocker: &atlock.Blocker{Key: "acme/infra/db/prod/web`s"}}},
	"full":          {"", &atlock.Waiting{Why: "full"}},
	"no-place":      {"", nil},
}

// otherCases are refusals that have no sentence of stock's.
var otherCases = map[string]func(w words, pull models.PullRequest) string{
	"frozen": func(w words, _ models.PullRequest) string {
		return w.unavailable(failure(t0frozen, "acme/infra/db/default/ is frozen by ada until 18:00 UTC: incident 1231"))
	},
	"degraded": func(w words, _ models.PullRequest) string {
		return w.unavailable(failure(t0degraded, "Redis cannot be asked, and the local store cannot answer this in its place: not armed; try again later"))
	},
	"set-incomplete": func(w words, _ models.PullRequest) string {
		return w.unavailable(failure(t0incomplete, "acme/infra/a/default/ is taken together with \"acme/infra/b/default/\", which cannot be had"))
	},
	"closed": func(w words, pull models.PullRequest) string { return w.closed(pull) },
	"turn": func(w words, _ models.PullRequest) string {
		return w.turnOf(projectNames(repo, []string{"acme/infra/db/default/", "acme/infra/./prod/web"}), time.Date(2026, 11, 30, 18, 5, 0, 0, time.UTC))
	},
	"left": func(w words, _ models.PullRequest) string { return w.left("`db`") },
	"dropped": func(w words, _ models.PullRequest) string {
		return w.dropped("its repository is not in Atlantis's allowlist any more")
	},
	"circle": func(w words, pull models.PullRequest) string {
		return w.circle(pull, circleOf(9, 7), &atlock.PullID{Num: 7})
	},
	"circle-own": func(w words, pull models.PullRequest) string {
		return w.circle(pull, circleOf(9, 7), &atlock.PullID{Num: 9})
	},
	"circle-three": func(w words, pull models.PullRequest) string {
		return w.circle(pull, circleOf(7, 9, 8), &atlock.PullID{Num: 8})
	},
	"circle-applied": func(w words, pull models.PullRequest) string { return w.circle(pull, circleOf(9, 7), nil) },
	"yielded": func(w words, pull models.PullRequest) string {
		return w.yielded(pull, circleOf(9, 7), "acme/infra/9/default/")
	},
	"lost":             func(w words, pull models.PullRequest) string { return w.discarded(pull, keyA, nil) },
	"lost-other":       func(w words, pull models.PullRequest) string { return w.discarded(pull, keyA, &atlock.PullID{Num: 7}) },
	"not-taken":        func(w words, _ models.PullRequest) string { return w.notTaken("`db`") },
	"guard-nobody":     func(w words, pull models.PullRequest) string { return w.lost(pull, nil) },
	"guard-other":      func(w words, pull models.PullRequest) string { return w.lost(pull, &atlock.PullID{Num: 2}) },
	"guard-again":      func(w words, _ models.PullRequest) string { return w.otherGrant() },
	"guard-unchecked":  func(w words, _ models.PullRequest) string { return w.unchecked(errors.New("the store is away")) },
	"guard-unreadable": func(w words, _ models.PullRequest) string { return w.unreadable(errors.New("the file is damaged")) },
	"guard-frozen": func(w words, _ models.PullRequest) string {
		return w.frozen("applies are frozen by ada until 18:00 UTC: incident 1231; plans are not")
	},
}

const (
	t0frozen     = "frozen"
	t0degraded   = "degraded"
	t0incomplete = "incomplete"
)

// failure is an error of the library, as the database wraps it.
func failure(kind, message string) error {
	sentinel := map[string]error{
		t0frozen: atlock.ErrFrozen, t0degraded: atlock.ErrDegraded, t0incomplete: atlock.ErrSetIncomplete,
	}[kind]
	failed := &atlock.Error{Message: message}
	errors.As(sentinel, &failed.Code)
	return errors.Join(errors.New("DB transaction failed"), failed)
}

// TestTexts compares each comment with its golden text, for each kind of Git host: those that link to a pull request by #, and by !.
func TestTexts(t *testing.T) {
	for host, sign := range map[models.VCSHostType]string{
		models.Github: "hash", models.Gitea: "hash", models.BitbucketCloud: "hash", models.BitbucketServer: "hash",
		models.Gitlab: "bang", models.AzureDevops: "bang",
	} {
		asks := pull(9)
		asks.BaseRepo.VCSHost.Type = host
		for _, name := range slices.Sorted(maps.Keys(waitingCases)) {
			c := waitingCases[name]
			w := words{client: hosts{}, program: "atlantis", replan: cmp.Or(c.replan, atlock.ReplanAuto), turn: 30 * time.Minute}
			holder := pull(1)
			holder.BaseRepo.VCSHost.Type = host
			stock := events.DefaultProjectLocker{
				Locker:    answered{nil, 0, atlock.ProjectWorkspace{}, locking.TryLockResponse{CurrLock: models.ProjectLock{Pull: holder}}},
				VCSClient: hosts{}, ExecutableName: "atlantis",
			}
			refused, err := stock.TryLock(logging.NewNoopLogger(t), asks, models.User{}, "default", models.Project{}, true)
			must(t, err)
			added, err := w.waiting(asks, c.place)
			must(t, err)
			golden(t, name+"."+sign, refused.LockFailureReason+added)
		}
		for _, name := range slices.Sorted(maps.Keys(otherCases)) {
			w := words{client: hosts{}, program: "atlantis", replan: atlock.ReplanAuto, turn: 30 * time.Minute}
			golden(t, name+"."+sign, otherCases[name](w, asks))
		}
	}
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name+".md")
	if *update {
		must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if text+"\n" != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, text, want)
	}
}

// Other errors are none of the words': Atlantis shows them as errors.
func TestOtherErrorsStayErrors(t *testing.T) {
	w := words{program: "atlantis"}
	for _, err := range []error{errors.New("no error of the library"), &atlock.Error{Message: "of another code"}} {
		if said := w.unavailable(err); said != "" {
			t.Errorf("%v: %s", err, said)
		}
	}
}

func TestOrdinals(t *testing.T) {
	for number, text := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 111: "111th", 122: "122nd"} {
		if got := ordinal(number); got != text {
			t.Errorf("%d: %s", number, got)
		}
	}
}

func TestSpokenTimes(t *testing.T) {
	for span, text := range map[time.Duration]string{30 * time.Minute: "30 minutes", 90 * time.Second: "1m30s", time.Minute: "1m0s"} {
		if got := spoken(span); got != text {
			t.Errorf("%v: %s", span, got)
		}
	}
}

// circleOf is a circle of pull requests each of which holds the folder of its number, and waits for the next one's.
func circleOf(nums ...int) atlock.Deadlock {
	circle := atlock.Deadlock{ID: "c1", Kind: "held", Repo: repo, Pulls: pulls(nums...)}
	for i, num := range nums {
		next := nums[(i+1)%len(nums)]
		key := fmt.Sprintf("acme/infra/%d/default/", next)
		circle.Links = append(circle.Links, atlock.DeadlockLink{Waiter: atlock.PullID{Num: num}, Holder: atlock.PullID{Num: next}, Keys: []string{key}})
	}
	return circle
}

func pulls(nums ...int) []atlock.PullID {
	ids := make([]atlock.PullID, len(nums))
	for i, num := range nums {
		ids[i] = atlock.PullID{Num: num}
	}
	return ids
}
