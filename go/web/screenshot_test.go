package web_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/web"
)

// TestScreenshots writes pictures of the page in its states into the folder that ATLOCK_SCREENSHOTS names, with Chromium, for a
// person to look at: wide as a desk and narrow as a phone.
func TestScreenshots(t *testing.T) {
	folder := os.Getenv("ATLOCK_SCREENSHOTS")
	if folder == "" {
		t.Skip("ATLOCK_SCREENSHOTS names no folder")
	}
	redis := redistest.Start(t, redistest.Options{})
	database := openHybrid(t, redis.Addr)
	holders := []string{"ada", "grace", "linus", "margaret"}
	for i := range 64 {
		lock := newLock([]string{"acme/infra", "acme/platform", "globex/network"}[i%3], fmt.Sprintf("environments/%02d/eu-west-1", i), i+1)
		lock.User.Username = holders[i%len(holders)]
		lock.Time = time.Now().Add(-time.Duration(i*i) * time.Minute)
		takeLock(t, database, lock)
	}
	served := serveAtlantis(t, database)
	look := func(name string) { photograph(t, folder, name, served.URL+path(name)) }
	time.Sleep(20 * time.Second) // some history for the chart
	look("healthy")
	redis.Kill()
	take(t, database, "acme/infra", "environments/live/eu-west-1", 99)
	time.Sleep(20 * time.Second)
	look("fallback")
	redis.Restart(t)
	waitUntil(t, "the recovery", func() bool { status, _ := database.Status(); return !status.FallbackActive })
	time.Sleep(15 * time.Second)
	look("recovered")
	look("index")
}

// TestScreenshotsOfTheQueue does the same with a queue, a circle and a freeze.
func TestScreenshotsOfTheQueue(t *testing.T) {
	folder := os.Getenv("ATLOCK_SCREENSHOTS")
	if folder == "" {
		t.Skip("ATLOCK_SCREENSHOTS names no folder")
	}
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
	photograph(t, folder, "queue", serveAtlantis(t, database).URL+web.PagePath)
}

// photograph writes the page's pictures: wide and narrow, light and dark.
func photograph(t *testing.T, folder, name, url string) {
	t.Helper()
	for size, window := range map[string]string{"desk": "1280,2000", "phone": "400,2600"} {
		for scheme, number := range map[string]string{"": "1", "-dark": "0"} {
			take := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
				"--user-data-dir="+t.TempDir(), "--window-size="+window, "--virtual-time-budget=3000", "--blink-settings=preferredColorScheme="+number,
				"--screenshot="+filepath.Join(folder, name+"-"+size+scheme+".png"), url)
			if output, err := take.CombinedOutput(); err != nil {
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
