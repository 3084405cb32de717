package web_test

import (
	"cmp"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/web"
)

// acts is what the page changes, written down. Looks come from the database.
type acts struct {
	database *atlock.Database
	notes    []string
	stale    []web.StaleLock
	did      []string
	answers  func(asked web.Asked) web.Released
	fails    error
	looks    int
	away     error // what looking comes to
}

func (a *acts) Look(lock models.ProjectLock) (web.Look, error) {
	if a.looks++; a.away != nil {
		return web.Look{}, a.away
	}
	checked, err := a.database.For(lock.Pull).Check(lock.Project, lock.Workspace, atlock.NoToken)
	if err == nil && !checked.Holds {
		err = errors.New("gone")
	}
	return web.Look{Grant: web.Grant{Pull: lock.Pull.Num, Token: checked.Token, Taken: lock.Time}, Notes: a.notes}, err
}

func (a *acts) Release(by atlock.Actor, asked []web.Asked) (came []web.Released) {
	for _, one := range asked {
		a.did = append(a.did, fmt.Sprintf("%s releases %s of #%d", nameOf(by), one.Key, one.Grant.Pull))
		came = append(came, a.answers(one))
	}
	return came
}

func (a *acts) CleanUp(by atlock.Actor, repo string, pull int, asked []web.Asked) error {
	a.did = append(a.did, fmt.Sprintf("%s cleans up #%d of %s: %d locks", nameOf(by), pull, repo, len(asked)))
	return a.fails
}

func (a *acts) Stale() []web.StaleLock { return a.stale }

func (a *acts) UnlockApplies(by atlock.Actor) error {
	a.did = append(a.did, nameOf(by)+" lets apply")
	return a.fails
}

// nameOf is who asks on the page, from where.
func nameOf(by atlock.Actor) string {
	if by.Via != atlock.ViaPage || !strings.HasPrefix(by.By.Address, "127.0.0.1:") {
		return fmt.Sprintf("not the page: %+v", by)
	}
	return cmp.Or(by.By.User, "page")
}

func newActs(t *testing.T) *acts {
	return &acts{database: openQueue(t), answers: func(asked web.Asked) web.Released { return web.Released{Key: asked.Key, Result: "released"} }}
}

// post sends a form, as a browser on the page itself does unless the headers say otherwise. Redirections are not followed.
func post(t testing.TB, served *httptest.Server, path string, form url.Values, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, served.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		if request.Header.Del(headers[i]); headers[i+1] != "" {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	client := *served.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// second is the form of a page's second step.
func second(page string) url.Values {
	form := url.Values{"release": {"yes"}}
	for _, found := range regexp.MustCompile(`name="(lock|closed)" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		form.Add(found[1], html.UnescapeString(found[2]))
	}
	return form
}

func wantParts(t *testing.T, text string, parts ...string) {
	t.Helper()
	text = unbroken(text)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
}

// The first step shows and changes nothing; the second one has what was shown.
func TestLocksAreReleasedInTwoSteps(t *testing.T) {
	a := newActs(t)
	a.notes = []string{"applied, and not merged", "a plan of #1 runs since 10:00 UTC"}
	for _, lock := range []models.ProjectLock{newLock("acme/infra", "a", 1), newLock("acme/infra", "b", 1), newLock("acme/infra", "c", 2), newLock("acme/other", "d", 1)} {
		takeLock(t, a.database, lock)
	}
	wait(t, a.database, "acme/infra", "a", 3)
	served := serveActing(t, a.database, a)
	for name, c := range map[string]struct {
		form url.Values
		want string
		says []string
	}{
		"selected": {url.Values{"lock": {"acme/infra/c/default/", "acme/infra/a/default/", "acme/infra/a/default/", "acme/gone/x/default/"}},
			"[ops releases acme/infra/a/default/ of #1 ops releases acme/infra/c/default/ of #2]",
			[]string{"Release 2 locks?", "Nobody holds <code>acme/gone/x/default/</code>", "applied, and not merged; a plan of #1 runs since", `data-label="Waiting">1<`,
				`data-label="Waiting">nobody<`, ">ada<"}},
		"of a pull": {url.Values{"all": {"pull 1 acme/infra"}, "lock": {"acme/infra/c/default/"}},
			"[ops releases acme/infra/a/default/ of #1 ops releases acme/infra/b/default/ of #1]", []string{"Release 2 locks?"}},
		"of a repository": {url.Values{"all": {"repository acme/infra"}},
			"[ops releases acme/infra/a/default/ of #1 ops releases acme/infra/b/default/ of #1 ops releases acme/infra/c/default/ of #2]",
			[]string{"Release 3 locks?"}},
		"nobody's": {url.Values{"all": {"repository acme/none"}}, "", []string{"No lock is left to release"}},
	} {
		t.Run(name, func(t *testing.T) {
			a.did = nil
			code, text := post(t, served, web.ReleasePath, c.form)
			if code != http.StatusOK || len(a.did) > 0 {
				t.Fatalf("%d %s: %v", code, text, a.did)
			}
			wantParts(t, text, c.says...)
			if c.want == "" {
				return
			}
			code, text = post(t, served, web.ReleasePath, second(text))
			if got := fmt.Sprint(a.did); code != http.StatusOK || got != c.want {
				t.Errorf("%d %s", code, got)
			}
			wantParts(t, text, "are released", "Back to the locks")
		})
	}
	a.answers = func(asked web.Asked) web.Released {
		lock, err := a.database.GetLock(models.Project{RepoFullName: "acme/other", Path: "d"}, "default")
		if err != nil || !asked.Grant.Taken.Equal(lock.Time) || asked.Grant.Token == atlock.NoToken {
			t.Errorf("not as it was shown: %+v, %+v", asked, lock)
		}
		return web.Released{Key: asked.Key, Result: "refused", Text: "look at " + leak}
	}
	_, text := post(t, served, web.ReleasePath, url.Values{"lock": {"acme/other/d/default/"}})
	_, text = post(t, served, web.ReleasePath, second(text))
	if wantParts(t, text, "0 of 1 lock is released", "refused", "look at redis://127.0.0.1"); strings.Contains(text, secret) {
		t.Errorf("a secret: %s", text)
	}
}

// Stale locks have a table of their own; those of a closed pull request go together.
func TestStaleLocksAreReleased(t *testing.T) {
	a := newActs(t)
	a.stale = []web.StaleLock{}
	served := serveActing(t, a.database, a)
	if text := must(t, served, web.PagePath); !strings.Contains(text, "<span>stale locks</span><strong>0</strong>") || strings.Contains(text, "Stale locks</h2>") {
		t.Error(text)
	}
	take(t, a.database, "acme/infra", "a", 1)
	take(t, a.database, "acme/infra", "b", 1)
	take(t, a.database, "acme/infra", "c", 2)
	take(t, a.database, "acme/infra", "d", 3)
	since := time.Now().Add(-time.Hour)
	a.stale = []web.StaleLock{
		{"acme/infra/a/default/", "acme/infra", 1, "https://git.example.com/1", "ada", since, "closed", since, true},
		{"acme/infra/c/default/", "acme/infra", 2, "javascript:alert(1)", "ada", since, "orphan", since, true},
		{"acme/infra/d/default/", "acme/infra", 3, "", "ada", since, "closed", since, false},
	}
	text := must(t, served, web.PagePath)
	wantParts(t, text, "<h2>Stale locks</h2>", `name="closed" value="1 acme/infra"`, `name="lock" value="acme/infra/c/default/"`, ">1 h</time>", "once, <time", ">1 h ago</time>")
	if strings.Contains(text, `value="3 acme/infra"`) || strings.Contains(text, "javascript:") {
		t.Errorf("a release of what was seen once, or markup: %s", text)
	}
	_, text = post(t, served, web.ReleasePath, url.Values{"closed": {"1 acme/infra"}})
	wantParts(t, text, "Release 2 locks?", "this pull is closed")
	code, text := post(t, served, web.ReleasePath, second(text))
	if got := fmt.Sprint(a.did); code != http.StatusOK || got != "[ops cleans up #1 of acme/infra: 2 locks]" {
		t.Errorf("%d %s %s", code, got, text)
	}
	a.fails = errors.New("#1 is open again")
	_, text = post(t, served, web.ReleasePath, url.Values{"closed": {"1 acme/infra"}})
	if code, text = post(t, served, web.ReleasePath, second(text)); code != http.StatusConflict || !strings.Contains(text, "#1 is open again") {
		t.Errorf("%d %s", code, text)
	}
	if code, text = post(t, served, web.ReleasePath, url.Values{"closed": {"2 acme/infra"}}); code != http.StatusConflict {
		t.Errorf("an open pull: %d %s", code, text)
	}
}

// What makes no sense changes nothing, and says why.
func TestFormsThatMakeNoSense(t *testing.T) {
	a := newActs(t)
	served := serveActing(t, a.database, a)
	many := url.Values{"release": {"yes"}}
	for i := range 301 {
		many.Add("lock", fmt.Sprintf("1.2.3 acme/infra/%d/default/", i))
	}
	for name, c := range map[string]struct {
		path string
		form url.Values
		code int
		says string
	}{
		"nothing":          {web.ReleasePath, nil, 400, "no lock was chosen"},
		"nothing to do":    {web.ReleasePath, url.Values{"release": {"yes"}}, 400, "no lock was chosen"},
		"no grant":         {web.ReleasePath, url.Values{"release": {"yes"}, "lock": {"acme/infra/a/default/"}}, 400, "as the page shows it"},
		"no number":        {web.ReleasePath, url.Values{"release": {"yes"}, "lock": {"1.x.3 acme/infra/a/default/"}}, 400, "as the page shows it"},
		"too many":         {web.ReleasePath, many, 400, "301 locks are too many at once"},
		"too long":         {web.ReleasePath, url.Values{"lock": {strings.Repeat("x", 600<<10)}}, 413, "the form is too long"},
		"no kind":          {web.ReleasePath, url.Values{"all": {"folder a"}}, 400, "neither a pull request nor a repository"},
		"no pull":          {web.ReleasePath, url.Values{"all": {"pull x acme/infra"}}, 400, "is no pull request"},
		"not closed":       {web.ReleasePath, url.Values{"closed": {"1 acme/infra"}}, 409, "was not seen"},
		"no end":           {web.FreezePath, url.Values{"repo": {"acme/infra"}, "reason": {"x"}}, 400, "choose one"},
		"no reason":        {web.FreezePath, url.Values{"repo": {"acme/infra"}, "for": {"1h"}}, 400, "reason"},
		"no freeze":        {web.ThawPath, nil, 400, "no freeze was named"},
		"a release by GET": {web.ReleasePath + "?all=repository+acme/infra", nil, 400, "no lock was chosen"},
	} {
		t.Run(name, func(t *testing.T) {
			code, text := post(t, served, c.path, c.form)
			if code != c.code || !strings.Contains(text, c.says) || !strings.Contains(text, "Nothing was changed") || len(a.did) > 0 {
				t.Errorf("%d %v %s", code, a.did, text)
			}
		})
	}
	if response, _ := get(t, served, web.ReleasePath); response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusMethodNotAllowed {
		t.Error(response.Status)
	}
}

// A lock that is gone is told of; a store that does not answer is not asked for each lock.
func TestLocksThatCannotBeLookedAt(t *testing.T) {
	a := newActs(t)
	take(t, a.database, "acme/infra", "a", 1)
	take(t, a.database, "acme/infra", "b", 1)
	served := serveActing(t, a.database, a)
	a.away = errors.New("#1 does not hold the lock any more")
	code, text := post(t, served, web.ReleasePath, url.Values{"all": {"pull 1 acme/infra"}})
	if wantParts(t, text, "cannot be released: #1 does not hold the lock any more"); code != http.StatusOK || len(second(text)["lock"]) > 0 {
		t.Errorf("%d %s", code, text)
	}
	a.looks, a.away = 0, &atlock.Error{Message: "Redis hangs"}
	code, text = post(t, served, web.ReleasePath, url.Values{"all": {"pull 1 acme/infra"}})
	if code != http.StatusServiceUnavailable || a.looks != 1 || !strings.Contains(text, "Redis hangs") {
		t.Errorf("%d, %d looks: %s", code, a.looks, text)
	}
}

// Of more locks than are released at once, the first are shown, and that is said.
func TestOfTooManyLocksTheFirstAreShown(t *testing.T) {
	a := newActs(t)
	for i := range 305 {
		take(t, a.database, "acme/infra", fmt.Sprintf("%03d", i), 1)
	}
	_, text := post(t, serveActing(t, a.database, a), web.ReleasePath, url.Values{"all": {"repository acme/infra"}})
	wantParts(t, text, "Release 300 locks?", "the first 300 of 305")
	if got := len(second(text)["lock"]); got != 300 {
		t.Error(got)
	}
}

// Every form is behind Atlantis's web auth, and no page of another site can send one.
func TestWhoMaySendForms(t *testing.T) {
	a := newActs(t)
	take(t, a.database, "acme/infra", "a", 1)
	frozen := freeze(t, a.database, "acme/kept", "audit", "ada")
	served := serveActing(t, a.database, a)
	served.Client().Transport = http.DefaultTransport // without a password
	const password = "Basic b3BzOnMzY3IzdC1wYXNzd29yZA=="
	forms := map[string]url.Values{
		web.ReleasePath:       {"release": {"yes"}, "lock": {"1.2.3 acme/infra/a/default/"}},
		web.FreezePath:        {"repo": {"acme/infra"}, "reason": {"audit"}, "for": {"open"}, "plans": {"allow"}},
		web.ThawPath:          {"id": {frozen.ID}},
		web.UnlockAppliesPath: nil,
	}
	for path, form := range forms {
		for name, c := range map[string]struct {
			code    int
			headers []string
		}{
			"no password":    {401, nil},
			"another site":   {403, []string{"Authorization", password, "Sec-Fetch-Site", "cross-site"}},
			"a sister site":  {403, []string{"Authorization", password, "Sec-Fetch-Site", "same-site"}},
			"an old browser": {403, []string{"Authorization", password, "Sec-Fetch-Site", "", "Origin", "https://evil.example.com"}},
		} {
			if code, text := post(t, served, path, form, c.headers...); code != c.code || len(a.did) > 0 {
				t.Errorf("%s: %s: %d %v %s", path, name, code, a.did, text)
			}
		}
	}
	freezes, err := a.database.Freezes()
	if err != nil || len(freezes) != 1 {
		t.Fatal(freezes, err)
	}
	// By the name that Atlantis itself has, behind a proxy that calls the server otherwise.
	for path, form := range forms {
		code, text := post(t, served, path, form, "Authorization", password, "Sec-Fetch-Site", "", "Origin", "https://atlantis.example.com")
		if code != http.StatusOK && code != http.StatusSeeOther {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if len(a.did) != 2 || strings.Count(fmt.Sprint(a.did), "ops ") != 2 {
		t.Error(a.did)
	}
	if freezes, err = a.database.Freezes(); err != nil || len(freezes) != 1 || freezes[0].Owner != "ops" || freezes[0].Until != nil || freezes[0].Plans != atlock.FreezePlansAllow {
		t.Errorf("%+v, %v", freezes, err)
	}
}

func TestFreezesFromThePage(t *testing.T) {
	a := newActs(t)
	take(t, a.database, "acme/infra", "a", 1)
	served := serveActing(t, a.database, a)
	wantParts(t, must(t, served, web.PagePath), `type="text" name="repo" list="repositories" required value="acme/infra"`, `<option value="3d">3 days</option>`)
	form := url.Values{"repo": {"acme/infra"}, "path": {"prod/*"}, "workspace": {"*"}, "project": {"*"}, "reason": {"audit"}, "for": {"3d"}, "plans": {"deny"}}
	if code, text := post(t, served, web.FreezePath, form); code != http.StatusSeeOther {
		t.Fatalf("%d %s", code, text)
	}
	freezes, err := a.database.Freezes()
	if err != nil || len(freezes) != 1 || freezes[0].Owner != webUser || freezes[0].Pattern.Path != "prod/*" || freezes[0].Reason != "audit" {
		t.Fatalf("%+v, %v", freezes, err)
	}
	if left := time.Until(freezes[0].Until.Time()); left < 71*time.Hour || left > 73*time.Hour {
		t.Error(left)
	}
	wantParts(t, must(t, served, web.PagePath), `name="id" value="`+freezes[0].ID+`">Thaw</button>`)
	for range 2 { // the second finds nothing
		if code, text := post(t, served, web.ThawPath, url.Values{"id": {freezes[0].ID}}); code != http.StatusSeeOther {
			t.Fatalf("%d %s", code, text)
		}
	}
	if freezes, err = a.database.Freezes(); err != nil || len(freezes) > 0 {
		t.Errorf("%+v, %v", freezes, err)
	}
}

func TestAppliesAreAllowedAgain(t *testing.T) {
	a := newActs(t)
	if _, err := a.database.LockCommand(command.Apply, time.Now()); err != nil {
		t.Fatal(err)
	}
	// Where nobody is asked for a name, the page is told as who it was.
	served := serveActing(t, a.database, a, func(s *server.Server) { s.WebAuthentication = false })
	wantParts(t, must(t, served, web.PagePath), "Allow applies again")
	if code, text := post(t, served, web.UnlockAppliesPath, nil); code != http.StatusSeeOther || fmt.Sprint(a.did) != "[page lets apply]" {
		t.Errorf("%d %s %v", code, text, a.did)
	}
	a.fails = errors.New("no lock exists")
	if code, text := post(t, served, web.UnlockAppliesPath, nil); code == http.StatusSeeOther || !strings.Contains(text, "no lock exists") {
		t.Errorf("%d %s", code, text)
	}
}

// Where nothing is wired, the page offers nothing, and nobody listens.
func TestThePageWithoutActions(t *testing.T) {
	database := openQueue(t)
	take(t, database, "acme/infra", "a", 1)
	take(t, database, "acme/infra", "b", 1)
	served := serveAtlantis(t, database)
	if text := must(t, served, web.PagePath); strings.Contains(text, "elease") || strings.Contains(text, `type="checkbox"`) || strings.Contains(text, "Stale") {
		t.Errorf("something is offered: %s", text)
	}
	if code, _ := post(t, served, web.ReleasePath, url.Values{"all": {"repository acme/infra"}}); code != http.StatusMethodNotAllowed {
		t.Error(code)
	}
}

// What somebody else chose is never markup, in either step.
func TestHostileNamesInAForm(t *testing.T) {
	const markup = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	a := newActs(t)
	a.notes = []string{markup}
	lock := newLock("acme/"+markup, markup, 7)
	lock.Workspace, lock.Project.ProjectName, lock.User.Username = markup, markup, markup
	lock.Pull.URL = "javascript:alert(1)"
	takeLock(t, a.database, lock)
	a.stale = []web.StaleLock{{markup, markup, 7, "javascript:alert(1)", markup, time.Now(), "orphan", time.Now(), true}}
	served := serveActing(t, a.database, a)
	_, first := post(t, served, web.ReleasePath, url.Values{"all": {"repository acme/" + markup}, "lock": {markup}})
	_, last := post(t, served, web.ReleasePath, second(first))
	_, unknown := post(t, served, web.ReleasePath, url.Values{"lock": {markup}})
	for i, text := range []string{first, last, unknown, must(t, served, web.PagePath)} {
		if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img src=x") || strings.Contains(text, "javascript:") {
			t.Errorf("%d: a name became markup: %s", i, text)
		}
		wantParts(t, text, "&lt;script&gt;alert(1)")
	}
	if len(a.did) != 1 || !strings.Contains(a.did[0], models.GenerateLockKey(lock.Project, lock.Workspace)) {
		t.Error(a.did)
	}
}
