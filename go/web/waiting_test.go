package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// unbroken is a page without the places where a line may break.
func unbroken(page string) string { return strings.ReplaceAll(page, "<wbr>", "") }

// cells are the texts of the rows of a page's tables, one space between two cells.
func cells(page string) string {
	rows := regexp.MustCompile(`(?s)<tr.*?</tr>`).FindAllString(unbroken(page), -1)
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(strings.Join(rows, "\n"), " ")
	return regexp.MustCompile(`\s+`).ReplaceAllString(text, " ")
}

// Who waits, behind whom and for what; a lock that is kept for somebody; circles and freezes.
func TestTheQueueOnThePage(t *testing.T) {
	database := openQueue(t)
	served := serveAtlantis(t, database)
	text := must(t, served, web.PagePath)
	if !strings.Contains(text, "Nobody waits.") || strings.Contains(text, "Circles</h2>") || strings.Contains(text, "Freezes</h2>") {
		t.Errorf("nobody waits: %s", text)
	}
	circle(t, database)
	wait(t, database, "acme/infra", "a", 3)
	take(t, database, "acme/platform", "network", 7)
	wait(t, database, "acme/platform", "network", 8)
	if _, err := database.UnlockByPull("acme/platform", 7); err != nil {
		t.Fatal(err)
	}
	freeze(t, database, "acme/other", "audit of the year", "margaret")
	text = must(t, served, web.PagePath)
	shown := cells(text)
	for _, wanted := range []string{
		"a/default 1 #2 grace 0 ms normal #1, which holds the lock",
		"a/default 2 #3 grace 0 ms normal #1, which holds the lock",
		"b/default 1 #1 grace 0 ms normal #2, which holds the lock",
		"acme/other plans and applies margaret audit of the year ",
	} {
		shown := regexp.MustCompile(`[\d.]+ m?s normal`).ReplaceAllString(shown, "0 ms normal")
		if !strings.Contains(shown, wanted) {
			t.Errorf("no %q in %s", wanted, shown)
		}
	}
	if !regexp.MustCompile(`network/default 1 #8 grace .* kept for it (\d{4}-\d\d-\d\d )?\d\d:\d\d UTC`).MatchString(shown) {
		t.Errorf("nothing is kept for pull 8: %s", shown)
	}
	// The circle may be told from either pull.
	if !regexp.MustCompile(`acme/infra #(1 → #2 → #1|2 → #1 → #2) (a/default b/default|b/default a/default) `).MatchString(shown) {
		t.Errorf("no circle in %s", shown)
	}
	for _, wanted := range []string{
		`<div class="fact "><span>waiting</span><strong>4 pulls</strong>`, `<div class="fact bad"><span>circles</span><strong>1</strong>`,
		`<div class="fact warn"><span>freezes</span><strong>1</strong>`, `<a href="#queue">2<span class="unit"> waiting</span></a>`,
		`<a href="https://git.example.com/acme/infra/pull/3" rel="noreferrer">#3</a>`, "<h3>acme/platform</h3>",
	} {
		if !strings.Contains(text, wanted) {
			t.Errorf("no %q in %s", wanted, text)
		}
	}
}

// A queue for some repositories: the others are answered as without one, and everybody is told why.
func TestAQueueForSomeRepositories(t *testing.T) {
	database := open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Enhanced: atlock.Enhanced{
		PriorityQueue: atlock.PriorityQueue{Enabled: true, Repos: []string{"acme/*", "other/web"}},
	}}})
	for _, repo := range []string{"acme/infra", "other/infra"} {
		take(t, database, repo, "network", 7)
	}
	wait(t, database, "acme/infra", "network", 8)
	pull := models.PullRequest{Num: 8, BaseRepo: models.Repo{FullName: "other/infra"}}
	if _, err := database.For(pull).Begin(atlock.RunPlan); !errors.Is(err, atlock.ErrQueueDisabled) {
		t.Errorf("a plan of a repository without a queue: %v", err)
	}
	if _, err := database.UnlockByPull("other/infra", 7); err != nil {
		t.Fatal(err)
	}
	take(t, database, "other/infra", "network", 9) // kept for nobody
	served := serveAtlantis(t, database)
	const why = `"other/infra\" has no queue: locking.enhanced.priority_queue.repos`
	if text := must(t, served, web.ExplainPath+"?repo=other/infra&pull=9"); !strings.Contains(text, why) {
		t.Errorf("explain does not say why nobody waits: %s", text)
	}
	if code, text := call(t, served, http.MethodGet, web.QueuePath+"?repo=other/infra", ""); code != 404 || !strings.Contains(text, "priority_queue.repos") {
		t.Errorf("%d, %s", code, text)
	}
	text := must(t, served, web.PagePath)
	if !strings.Contains(text, "Only for repositories that fit acme/*, other/web") || !strings.Contains(text, "<h3>acme/infra</h3>") {
		t.Errorf("the page does not say for whom the queue is: %s", text)
	}
	if text := must(t, serveAtlantis(t, openQueue(t)), web.PagePath); strings.Contains(text, "Only for") {
		t.Errorf("the queue is for all: %s", text)
	}
}

// Without a queue in the settings, the page tells of none; and of one that cannot be read, it says so.
func TestThePageWithoutAQueue(t *testing.T) {
	for name, database := range map[string]*atlock.Database{
		"sled": openSled(t), "boltdb": open(t, atlock.Config{}, atlock.WithBoltDB(t.TempDir())),
	} {
		take(t, database, "acme/infra", "network", 7)
		text := must(t, serveAtlantis(t, database), web.PagePath)
		for _, unwanted := range []string{"Queue", "waiting", "Waiting", "circles", "freezes", "Applies are locked"} {
			if strings.Contains(text, unwanted) {
				t.Errorf("%s: %q on the page", name, unwanted)
			}
		}
	}
	text := must(t, serveAtlantis(t, unreadableQueue{openQueue(t)}), web.PagePath)
	if !strings.Contains(text, "Not all of who waits can be read") || strings.Contains(text, secret) || strings.Contains(text, "Nobody waits") {
		t.Errorf("the fault is not told of, or with a secret: %s", text)
	}
}

type unreadableQueue struct{ *atlock.Database }

func (unreadableQueue) Queues(string) (map[string][]atlock.QueuedPull, error) {
	return nil, fmt.Errorf("%s", leak)
}

// The global apply lock stops everybody, and stands where people look.
func TestTheGlobalApplyLockOnThePage(t *testing.T) {
	for name, database := range map[string]*atlock.Database{
		"sled": openSled(t), "boltdb": open(t, atlock.Config{}, atlock.WithBoltDB(t.TempDir())),
	} {
		served := serveAtlantis(t, database)
		if _, err := database.LockCommand(command.Apply, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if text := must(t, served, web.PagePath); !strings.Contains(text, "<h2>Applies are locked</h2>") || !strings.Contains(text, ">1 h ago</time>: nobody applies") {
			t.Errorf("%s: the lock is not told of: %s", name, text)
		}
		if err := database.UnlockCommand(command.Apply); err != nil {
			t.Fatal(err)
		}
		if text := must(t, served, web.PagePath); strings.Contains(text, "Applies are locked") {
			t.Errorf("%s: a lock that is gone is told of", name)
		}
	}
}

// What somebody else chose is never markup, whoever waits or freezes.
func TestHostileNamesInTheQueue(t *testing.T) {
	const markup = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	database := openQueue(t)
	take(t, database, "acme/"+markup, markup, 7)
	pull := models.PullRequest{Num: 8, URL: "javascript:alert(1)", Author: markup, BaseRepo: models.Repo{FullName: "acme/" + markup}}
	run, err := database.For(pull).Begin(atlock.RunPlan)
	if err != nil {
		t.Fatal(err)
	}
	_, err = run.TryLock(models.Project{RepoFullName: "acme/" + markup, Path: markup, ProjectName: markup}, "default", models.User{Username: markup})
	if err != nil {
		t.Fatal(err)
	}
	take8 := newLock("acme/"+markup, markup, 8)
	grant, err := run.TryLock(take8.Project, "default", models.User{Username: markup})
	if err != nil || grant.Acquired {
		t.Fatal(grant, err)
	}
	if _, err := run.End(); err != nil {
		t.Fatal(err)
	}
	freeze(t, database, "x/"+markup, markup, markup)
	text := must(t, serveAtlantis(t, database), web.PagePath)
	if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img src=x") || strings.Contains(text, "javascript:") {
		t.Errorf("a name became markup: %s", text)
	}
	if !strings.Contains(text, "<h3>acme/&lt;script&gt;") || strings.Count(text, "&lt;script&gt;alert(1)") < 6 {
		t.Errorf("something is not shown: %s", text)
	}
}

// However many wait, the page stays small, and says where the rest is.
func TestManyWhoWait(t *testing.T) {
	database := openQueue(t)
	for i := range 30 {
		path := fmt.Sprintf("environments/%02d", i)
		take(t, database, "acme/infra", path, 1)
		for num := 2; num < 5; num++ {
			wait(t, database, "acme/infra", path, num)
		}
	}
	served := serveAtlantis(t, database)
	text := must(t, served, web.PagePath)
	if !strings.Contains(text, "40 more") || !strings.Contains(text, "<strong>3 pulls</strong>") || len(text) > 96<<10 {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	if rows := strings.Count(text, `data-label="Waits for"`); rows != 50 {
		t.Errorf("%d rows", rows)
	}
	if response, _ := get(t, served, web.QueuePath); response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
}
