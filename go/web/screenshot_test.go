package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/web"
)

// album is the folder that ATLOCK_SCREENSHOTS names. Without one there is nobody who looks.
func album(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("ATLOCK_SCREENSHOTS")
	if folder == "" {
		t.Skip("ATLOCK_SCREENSHOTS names no folder")
	}
	return folder
}

// lockSome takes locks of a few people in three repositories, each a little older.
func lockSome(t *testing.T, database database, count int) {
	t.Helper()
	holders := []string{"ada", "grace", "linus", "margaret"}
	for i := range count {
		lock := newLock([]string{"acme/infra", "acme/platform", "globex/network"}[i%3], fmt.Sprintf("environments/%02d/eu-west-1", i), i+1)
		lock.User.Username = holders[i%len(holders)]
		lock.Time = time.Now().Add(-time.Duration(i*i) * time.Minute)
		takeLock(t, database, lock)
	}
}

// TestScreenshots writes pictures of the page in its states into the folder that ATLOCK_SCREENSHOTS names, with Chromium, for a
// person to look at: wide as a desk and narrow as a phone.
func TestScreenshots(t *testing.T) {
	folder := album(t)
	redis := redistest.Start(t, redistest.Options{})
	database := openHybrid(t, redis.Addr)
	served := serveAtlantis(t, database)
	look := func(name string) { photograph(t, folder, name, served.URL+path(name)) }
	look("empty")
	lockSome(t, database, 5)
	look("healthy")
	redis.Kill()
	waitUntil(t, "the fallback", func() bool { status, _ := database.Status(); return status.FallbackActive })
	take(t, database, "acme/infra", "environments/live/eu-west-1", 99)
	time.Sleep(10 * time.Second)
	look("fallback")
	look("index")
	redis.Restart(t)
	// A stock server was quicker.
	stock := `{"Project":{"RepoFullName":"acme/infra","Path":"environments/live/eu-west-1"},"Pull":{"Num":98},"Workspace":"default"}`
	if err := redis.Client(t).Set(t.Context(), "pr/acme/infra/environments/live/eu-west-1/default/", stock, 0).Err(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the recovery", func() bool {
		status, _ := database.Status()
		return !status.FallbackActive && len(status.Conflicts) > 0
	})
	look("conflict")
}

// TestScreenshotsOfManyLocks does the same with 500 locks and with 10,000.
func TestScreenshotsOfManyLocks(t *testing.T) {
	folder := album(t)
	some := openSled(t)
	lockSome(t, some, 500)
	photograph(t, folder, "locks-500", serveAtlantis(t, some).URL+web.PagePath+"?sort=folder")
	many := openSled(t)
	lockMany(t, many)
	photograph(t, folder, "locks-10000", serveAtlantis(t, many).URL+web.PagePath+"?filter=infra-42")
}

// TestScreenshotsOfTheQueue does the same with a queue, a circle, a freeze and stale locks, with locks that are selected, and with each step of a release.
func TestScreenshotsOfTheQueue(t *testing.T) {
	folder := album(t)
	database := openQueue(t)
	circle(t, database)
	take(t, database, "acme/infra", "environments/live/eu-west-1", 10)
	for num := 11; num < 15; num++ {
		wait(t, database, "acme/infra", "environments/live/eu-west-1", num)
	}
	take(t, database, "globex/network", "vpc", 20)
	wait(t, database, "globex/network", "vpc", 21)
	if _, err := database.UnlockByPull("globex/network", 20); err != nil {
		t.Fatal(err)
	}
	freeze(t, database, "acme/platform", "The auditors count the clusters until Friday: nothing may change.", "margaret")
	if _, err := database.LockCommand(command.Apply, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Add(-90 * time.Minute)
	take(t, database, "acme/infra", "environments/old/eu-west-1", 9)
	take(t, database, "acme/infra", "environments/test/eu-west-1", 10)
	a := &acts{database: database, notes: []string{"applied, and not merged"}, stale: []web.StaleLock{
		{"acme/infra/environments/old/eu-west-1/default/", "acme/infra", 9, "https://git.example.com/9", "ada", since, "closed", since, true},
		{"acme/infra/a/default/", "acme/infra", 1, "https://git.example.com/1", "ada", since, "orphan", since, false},
	}}
	a.answers = func(asked web.Asked) web.Released {
		if asked.Grant.Pull == 10 {
			return web.Released{Key: asked.Key, Result: "refused", Text: "a plan of #10 runs since 10:02 UTC: try again when that is over"}
		}
		return web.Released{Key: asked.Key, Result: "released"}
	}
	served := serveActing(t, database, a)
	photograph(t, folder, "queue", served.URL+web.PagePath)
	photograph(t, folder, "lock", served.URL+web.DetailPath+"?id=acme%2Finfra%2Fenvironments%2Flive%2Feu-west-1%2Fdefault%2F")
	chosen := url.Values{"all": {"repository acme/infra"}}
	_, first := post(t, served, web.ReleasePath, chosen)
	_, last := post(t, served, web.ReleasePath, second(first))
	_, failed := post(t, served, web.FreezePath, nil)
	_, closed := post(t, served, web.ReleasePath, url.Values{"closed": {"9 acme/infra"}})
	page := must(t, served, web.PagePath)
	page = strings.ReplaceAll(strings.ReplaceAll(page, `type="checkbox"`, `type="checkbox" checked`), `<details class="act">`, `<details class="act" open>`)
	pages := map[string]string{"release": first, "released": last, "failed": failed, "closed": closed, "selected": page}
	shown := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, isPage := pages[r.URL.Path[1:]]; isPage {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, text)
			return
		}
		asset, text := get(t, served, r.URL.Path)
		w.Header().Set("Content-Type", asset.Header.Get("Content-Type"))
		_, _ = io.WriteString(w, text)
	}))
	defer shown.Close()
	for name := range pages {
		photograph(t, folder, name, shown.URL+"/"+name)
	}
}

// photographWithin bounds a picture: a browser that shows a dialog waits for a person.
const photographWithin = 90 * time.Second

// photograph writes the page's pictures: wide and narrow, light and dark. It logs in by the address: asked for a password, Chromium waits for ever.
func photograph(t *testing.T, folder, name, address string) {
	t.Helper()
	withLogin, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	withLogin.User = url.UserPassword(webUser, webPassword)
	for size, window := range map[string]string{"desk": "1280,2500", "phone": "400,5200"} {
		for scheme, number := range map[string]string{"": "1", "-dark": "0"} {
			ctx, cancel := context.WithTimeout(t.Context(), photographWithin)
			take := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
				"--user-data-dir="+t.TempDir(), "--window-size="+window, "--blink-settings=preferredColorScheme="+number,
				"--screenshot="+filepath.Join(folder, name+"-"+size+scheme+".png"), withLogin.String())
			// Chromium is many processes, which must not outlive the test, nor keep their output open.
			take.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			take.Cancel = func() error { return syscall.Kill(-take.Process.Pid, syscall.SIGKILL) }
			take.WaitDelay = 5 * time.Second
			output, err := take.CombinedOutput()
			cancel()
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
		}
	}
}

func path(name string) string {
	if name == "index" {
		return "/"
	}
	return web.PagePath
}
