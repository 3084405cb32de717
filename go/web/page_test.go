package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/web"
)

// A shadow that decides otherwise is told with the lock and both answers, and changes nothing of what is decided.
func TestThePageOfAShadow(t *testing.T) {
	stock, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config := atlock.Config{Locking: atlock.Locking{Shadow: atlock.Shadow{Store: atlock.ShadowSled, DataDir: filepath.Join(t.TempDir(), "shadow")}}}
	database, err := atlock.Open(config, atlock.WithLegacy(stock))
	if err != nil {
		t.Fatal(err)
	}
	served := serveAtlantis(t, database)
	page := func() string { return must(t, served, web.PagePath) }
	waitUntil(t, "the shadow is in step", func() bool { return strings.Contains(page(), "<span>shadow</span><strong>in step</strong>") })
	take(t, database, "acme/infra", "known", 7)
	project := models.NewProject("acme/infra", "known", "")
	if _, err := stock.Unlock(project, "default"); err != nil { // behind the server's back
		t.Fatal(err)
	}
	if _, err := database.GetLock(project, "default"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the difference", func() bool { return strings.Contains(page(), "would have decided otherwise") })
	text := unbroken(page())
	for _, wanted := range []string{"acme/infra/known/default/", "pull #7 of acme/infra", "nothing", "get_lock", `class="state good"`} {
		if !strings.Contains(text, wanted) {
			t.Errorf("no %q", wanted)
		}
	}
}

// What an operator reads while Redis dies and comes back.
func TestThePageOfHybridMode(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	database := openHybrid(t, redis.Addr)
	take(t, database, "acme/infra", "before", 7)
	served := serveAtlantis(t, database)
	page := func() string { return must(t, served, web.PagePath) }

	text := page()
	for _, wanted := range []string{`class="state good"`, "Redis decides", "Redis decided all the time.", "closed"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("with Redis: no %q", wanted)
		}
	}
	waitUntil(t, "the lock in both stores", func() bool { return strings.Contains(page(), "Redis, local") })

	redis.Kill()
	// A lock that is asked for before that may be in doubt until Redis is back.
	waitUntil(t, "the fallback", func() bool { return strings.Contains(page(), "The local store decides") })
	take(t, database, "acme/infra", "during", 8)
	text = page()
	for _, wanted := range []string{`class="state warn"`, "Because: ", redis.Addr, "so far", "local only", "unsynced keys", "1 key", "during"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("without Redis: no %q", wanted)
		}
	}
	if text := must(t, served, "/"); !strings.Contains(text, `small locking-warn"><a href="/locking">Locking: The local store decides`) {
		t.Error("Atlantis's own page does not tell of the fallback")
	}
	// Locks are granted, so a load balancer must not take the server away.
	if response, _ := get(t, served, web.HealthPath); response.StatusCode != http.StatusOK {
		t.Errorf("the health while the local store decides: %s", response.Status)
	}

	redis.Restart(t)
	waitUntil(t, "the recovery", func() bool { return strings.Contains(page(), "pushed to Redis") })
	text = page()
	for _, wanted := range []string{`class="state good"`, "Redis decides", "1 pushed to Redis, 1 restored in Redis, in "} {
		if !strings.Contains(text, wanted) {
			t.Errorf("with Redis again: no %q", wanted)
		}
	}
	if strings.Contains(text, "local only") || strings.Contains(text, "so far") {
		t.Error("with Redis again: the fallback goes on")
	}
}

// A lock that two pulls were told they hold is shown with both, and with what ends it.
func TestAConflictOnThePage(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	database := openHybrid(t, redis.Addr)
	served := serveAtlantis(t, database)
	redis.Kill()
	waitUntil(t, "the fallback", func() bool { return strings.Contains(must(t, served, web.PagePath), "The local store decides") })
	take(t, database, "acme/infra", "network", 7)
	redis.Restart(t)
	// A stock server was quicker.
	stock := fmt.Sprintf(`{"Project":{"RepoFullName":"acme/infra","Path":"network"},"Pull":{"Num":%d},"Workspace":"default"}`, 9)
	if err := redis.Client(t).Set(t.Context(), "pr/acme/infra/network/default/", stock, 0).Err(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the conflict", func() bool { return strings.Contains(must(t, served, web.PagePath), "<h2>Conflicts</h2>") })
	text := unbroken(must(t, served, web.PagePath))
	for _, wanted := range []string{`class="state bad"`, "1 lock was granted to two pulls", "#7", "#9", "<code>acme/infra/network/default/</code>", "atlantis unlock"} {
		if !strings.Contains(text, wanted) {
			t.Errorf("no %q", wanted)
		}
	}
}

// The page's head repeats what the library says, and decides nothing of its own.
func TestTheHeadOfThePage(t *testing.T) {
	ok, broken := &atlock.StoreHealth{Healthy: true}, &atlock.StoreHealth{Error: "gone"}
	for overall, level := range map[atlock.HealthState]string{"healthy": "good", "degraded": "warn", "unhealthy": "bad"} {
		for _, status := range []atlock.Status{
			{Mode: "strict"}, {Mode: "native"}, {Mode: "hybrid", Armed: true}, {Mode: "hybrid"}, {Mode: "hybrid", FallbackActive: true},
			{Mode: "hybrid", Armed: true, Conflicts: []atlock.Conflict{{Key: "k"}}},
		} {
			for _, legacy := range []*atlock.StoreHealth{nil, ok, broken} {
				health := atlock.Health{Overall: overall != "unhealthy", State: overall, Headline: "Who decides", Enhanced: broken, Legacy: legacy}
				if gotLevel, headline, _ := web.State(status, health); gotLevel != level || headline != "Who decides" {
					t.Errorf("%+v, %+v: %s, %q", status, health, gotLevel, headline)
				}
			}
		}
	}
	for want, c := range map[string]struct {
		status atlock.Status
		health atlock.Health
	}{
		"": {atlock.Status{Mode: "hybrid", Armed: true}, atlock.Health{Enhanced: ok, Legacy: ok}},
		"Redis: gone|If Redis fails, no lock is granted: many": {
			atlock.Status{Mode: "hybrid", UnarmedBecause: "many"}, atlock.Health{Enhanced: broken, Legacy: ok}},
		"Because: refused|The local store must not decide: many|Local store: gone": {
			atlock.Status{Mode: "hybrid", FallbackActive: true, Cause: "refused", UnarmedBecause: "many"}, atlock.Health{Enhanced: broken, Legacy: broken}},
		"Lock store: gone": {atlock.Status{Mode: "strict"}, atlock.Health{Legacy: broken}},
		"Redis: gone":      {atlock.Status{Mode: "native"}, atlock.Health{Enhanced: broken}},
	} {
		_, _, because := web.State(c.status, c.health)
		if got := strings.Join(because, "|"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// The local store's disk fails while Redis decides. With sync every change waits for that disk, so none is granted; with async
// Redis goes on without it. Page and health say the same, and what they say is so.
func TestABrokenDiskWhileRedisDecides(t *testing.T) {
	for durability, wanted := range map[atlock.Durability]struct {
		state           atlock.HealthState
		level, headline string
		code            int
		granted         bool
	}{
		"sync":  {"unhealthy", "bad", "No lock is granted: the local store", http.StatusServiceUnavailable, false},
		"async": {"degraded", "warn", "Redis decides; the local store does not work", http.StatusOK, true},
	} {
		t.Run(string(durability), func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "data")
			database := open(t, atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: folder, Enhanced: atlock.Enhanced{
				Enabled: true, CompatibilityMode: "hybrid", Durability: durability,
				Redis: atlock.Redis{Address: redistest.Start(t, redistest.Options{}).Addr, Timeouts: shortTimeouts},
			}}})
			served := serveAtlantis(t, database)
			if err := os.Rename(folder, folder+".moved"); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "the fault", func() bool {
				health, err := database.Health()
				return err == nil && !health.Legacy.Healthy
			})
			if health, err := database.Health(); err != nil || health.State != wanted.state || !strings.HasPrefix(health.Headline, wanted.headline) {
				t.Errorf("health %+v, %v", health, err)
			}
			text := must(t, served, web.PagePath)
			if !strings.Contains(text, fmt.Sprintf("<section class=\"state %s\">\n      <h1>%s", wanted.level, wanted.headline)) {
				t.Errorf("the page's head is not %s, %q: %s", wanted.level, wanted.headline, text)
			}
			if response, _ := get(t, served, web.HealthPath); response.StatusCode != wanted.code {
				t.Errorf("the health: %s", response.Status)
			}
			// Atlantis's own page needs the global apply lock, which the local store tells while each change waits for it.
			if response, text := get(t, served, "/"); response.StatusCode == http.StatusOK && !strings.Contains(text, "Locking: "+wanted.headline) {
				t.Error("Atlantis's own page tells something else")
			}
			if granted, _, err := database.TryLock(newLock("acme/infra", "network", 7)); granted != wanted.granted {
				t.Errorf("granted: %t, %v", granted, err)
			}
		})
	}
}

// fill puts a text into every string of a value, down to the last field, so that no field that a later release adds is missed.
func fill(value reflect.Value, text string) {
	switch value.Kind() {
	case reflect.String:
		value.SetString(text)
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Field(i).CanSet() {
				fill(value.Field(i), text)
			}
		}
	case reflect.Slice:
		one := reflect.MakeSlice(value.Type(), 1, 1)
		fill(one.Index(0), text)
		value.Set(one)
	}
}

const secret = "s3cr3t-token"

// No answer has the token that clone URLs carry, whatever field it is planted in; what is shown is named here.
func TestNoAnswerHasASecret(t *testing.T) {
	database := openQueue(t)
	var lock models.ProjectLock
	fill(reflect.ValueOf(&lock).Elem(), secret)
	shown := newLock("acme/infra", "network", 7)
	lock.Project, lock.Workspace, lock.User.Username, lock.Time = shown.Project, shown.Workspace, "ada", shown.Time
	lock.Pull.Author = "ada"                                                  // Atlantis's own page shows it
	lock.Pull.Num, lock.Pull.BaseRepo.VCSHost.Hostname = 7, "git.example.com" // explain tells both
	lock.Pull.URL = "https://bot:" + secret + "@git.example.com/acme/infra/pull/7"
	takeLock(t, database, lock)
	waitAs(t, database, "acme/infra", "network", models.PullRequest{Num: 8, URL: lock.Pull.URL})
	freeze(t, database, "acme/infra", "look at "+leak, "ada")
	served := serveAtlantis(t, leaking{database})
	waitUntil(t, "the history", func() bool { return strings.Contains(must(t, served, web.PagePath), "cannot be reached") })
	id := "?id=acme%2Finfra%2Fnetwork%2Fdefault%2F"
	for _, path := range []string{
		web.StatusPath, web.HealthPath, web.MetricsPath, web.PagePath, web.PagePath + "?filter=acme", "/", web.QueuePath, web.FreezesPath,
		web.ExplainPath + id, web.ExplainPath + "?repo=acme/infra&pull=7", web.CheckPath + id + "&pull=7", web.StatsPath,
	} {
		if _, text := get(t, served, path); strings.Contains(text, secret) {
			t.Errorf("%s shows it: %s", path, text)
		}
	}
	if text := must(t, served, web.PagePath); !strings.Contains(text, `<a href="https://git.example.com/acme/infra/pull/7"`) {
		t.Error("the pull has no link")
	}
}

// leaking is a database whose every text has an address with credentials.
type leaking struct{ *atlock.Database }

const leak = "redis://bot:" + secret + "@127.0.0.1:6379 cannot be reached"

func (l leaking) Status() (atlock.Status, error) {
	status, err := l.Database.Status()
	status.Mode, status.FallbackActive, status.Cause, status.UnarmedBecause, status.Warnings = "hybrid", true, leak, leak, []string{leak}
	status.Fallbacks = []atlock.Fallback{{Since: 1, Cause: leak}}
	return status, err
}

func (l leaking) Health() (atlock.Health, error) {
	return atlock.Health{Overall: true, State: "degraded", Enhanced: &atlock.StoreHealth{Error: leak}, Legacy: &atlock.StoreHealth{Error: leak}}, nil
}

func TestErrorsHaveNoSecret(t *testing.T) {
	served := serveAtlantis(t, failing{openSled(t)})
	for _, path := range []string{web.StatusPath, web.HealthPath, web.MetricsPath, web.PagePath} {
		if _, text := get(t, served, path); strings.Contains(text, secret) {
			t.Errorf("%s shows it: %s", path, text)
		}
	}
}

// failing is a database that answers nothing but errors with credentials.
type failing struct{ *atlock.Database }

func (failing) Status() (atlock.Status, error)               { return atlock.Status{}, fmt.Errorf("%s", leak) }
func (failing) Health() (atlock.Health, error)               { return atlock.Health{}, fmt.Errorf("%s", leak) }
func (failing) Metrics() (string, error)                     { return "", fmt.Errorf("%s", leak) }
func (failing) List() ([]models.ProjectLock, error)          { return nil, fmt.Errorf("%s", leak) }
func (failing) LockInfo([]string) ([]atlock.LockInfo, error) { return nil, fmt.Errorf("%s", leak) }

// What somebody else chose is never markup.
func TestHostileNames(t *testing.T) {
	const markup = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	database := openSled(t)
	lock := newLock("acme/"+markup, markup, 7)
	lock.Workspace, lock.Project.ProjectName, lock.User.Username = markup, markup, markup
	lock.Pull.URL = "javascript:alert(1)"
	takeLock(t, database, lock)
	served := serveAtlantis(t, database)
	for _, path := range []string{web.PagePath, web.PagePath + "?filter=" + url.QueryEscape(markup), web.PagePath + "?page=" + url.QueryEscape(markup)} {
		text := must(t, served, path)
		if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img src=x") || strings.Contains(text, "javascript:") {
			t.Errorf("%s: a name became markup: %s", path, text)
		}
		if !strings.Contains(text, "&lt;script&gt;alert(1)") {
			t.Errorf("%s: the lock is not shown", path)
		}
	}
}

func TestFilterAndPages(t *testing.T) {
	database := openSled(t)
	for i := range 120 {
		lock := newLock("acme/infra", fmt.Sprintf("folder-%03d", i), i+1)
		lock.Time = time.Now().Add(time.Duration(i-1000) * time.Second)
		takeLock(t, database, lock)
	}
	served := serveAtlantis(t, database)
	shown := func(query string) (folders []string) {
		for _, part := range strings.Split(must(t, served, web.PagePath+query), "<code>folder-")[1:] {
			folders = append(folders, part[:3])
		}
		return folders
	}
	for query, wanted := range map[string]struct {
		count       int
		first, last string
	}{
		"":                             {50, "119", "070"},
		"?page=2":                      {50, "069", "020"},
		"?page=3":                      {20, "019", "000"},
		"?page=99":                     {20, "019", "000"},
		"?page=-1":                     {50, "119", "070"},
		"?page=x":                      {50, "119", "070"},
		"?filter=FOLDER-05":            {10, "059", "050"},
		"?filter=acme+folder-1&page=1": {20, "119", "100"},
		"?filter=%237+default+ada":     {11, "078", "006"},
	} {
		folders := shown(query)
		if len(folders) != wanted.count || folders[0] != wanted.first || folders[len(folders)-1] != wanted.last {
			t.Errorf("%q shows %v", query, folders)
		}
	}
	if text := must(t, served, web.PagePath+"?filter=nothing"); !strings.Contains(text, "No lock of 120 matches.") {
		t.Error("an empty result is not told of")
	}
	if text := must(t, served, web.PagePath+"?page=2&filter=folder"); !strings.Contains(text, `/locking?filter=folder&amp;page=3#locks"`) {
		t.Error("no way to the third page")
	}
}

func TestTheHistoryIsBounded(t *testing.T) {
	for count, wanted := range map[int]int{1: 1, web.HistoryLimit: web.HistoryLimit, 2*web.HistoryLimit + 5: web.HistoryLimit} {
		length, first, last := web.RemembersOnlyTheNewest(count)
		if length != wanted || last.Unix() != int64(count-1) || first.Unix() != int64(count-wanted) {
			t.Errorf("of %d samples: %d, %v to %v", count, length, first, last)
		}
	}
}

func TestTexts(t *testing.T) {
	// The same table is in src/redact.rs.
	for text, wanted := range map[string]string{
		"no":                                  "no",
		"get https://u:p@host/x?y=z: refused": "get https://host/x?y=z: refused",
		"rediss://:p@host:1, https://token@other":      "rediss://host:1, https://other",
		"https://u:p@ss@host/path":                     "https://host/path",
		`"https://u:p@host/a?b=c@d" and http://plain`:  `"https://host/a?b=c@d" and http://plain`,
		"https://host?to=a@b 'git://u@h'":              "https://host?to=a@b 'git://h'",
		"mail ada@example.com":                         "mail ada@example.com",
		"redis://:pa/ss@h":                             "redis://h",
		`"redis://u:p#w@h" is no`:                      `"redis://h" is no`,
		"rediss://u:a b@h":                             "rediss://h",
		`REDIS://u:p"q@h:1 'redis://u:p'?q@h'`:         "REDIS://h:1 'redis://h'",
		`git said: https://u:p/?#"'<>w@host/x is away`: "git said: https://host/x is away",
		"https://host/a:b@c and redis://h:6379":        "https://host/a:b@c and redis://h:6379",
		"redis://h:1\nmail ada@example.com":            "redis://h:1\nmail ada@example.com",
		"://@":                                         "://",
	} {
		if got := web.WithoutCredentials(text); got != wanted {
			t.Errorf("%q became %q", text, got)
		}
	}
	for text, wanted := range map[string]string{
		"https://u:p@host/pull/1?a=b": "https://host/pull/1?a=b",
		"javascript:alert(1)":         "", "": "", "//host": "", "data:text/html,x": "", ":": "",
	} {
		if got := web.WebAddress(text); got != wanted {
			t.Errorf("%q became %q", text, got)
		}
	}
	for length, wanted := range map[time.Duration]string{
		-time.Second: "0 ms", 1500 * time.Millisecond: "1.5 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min",
		26 * time.Hour: "1 d 2 h", 48 * time.Hour: "2 d", 3*time.Hour + 5*time.Minute: "3 h 5 min",
	} {
		if got := web.Short(length); got != wanted {
			t.Errorf("%v is %q", length, got)
		}
	}
}
