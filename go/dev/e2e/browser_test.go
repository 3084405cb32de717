//go:build e2e

package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browserLimit bounds a test's whole time in the browser, which on a busy machine needs much of a minute to start.
const browserLimit = 3 * time.Minute

// newTab starts a headless Chromium of the test's own, with a profile that nothing else uses.
func newTab(t *testing.T) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("chromium is needed for this test and not on PATH; on Debian: apt-get install chromium: %v", err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(program),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless,
		chromedp.NoSandbox, // it refuses to run as root with one
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.WindowSize(1100, 1400),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
	)
	t.Cleanup(stop)
	limited, cancel := context.WithTimeout(allocator, browserLimit)
	t.Cleanup(cancel)
	tab, closeTab := chromedp.NewContext(limited)
	t.Cleanup(closeTab)
	return tab
}

// standStill waits for the ends of the page's animations: nobody can click a button that is still flying in.
func standStill() chromedp.Action[chromedp.Void] {
	const ended = "Promise.all(document.getAnimations().map(animation => animation.finished)).then(() => true)"
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := chromedp.Evaluate[bool](ended, chromedp.EvalAwaitPromise)(ctx, target)
		return err
	})
}

// clickLive clicks on what the script of /locking may put in place anew between the look for it and the click.
func clickLive(selector chromedp.CSS) chromedp.Action[chromedp.Void] {
	const isGone = "(-32000)" // the DevTools protocol's code for a node that is not there any more
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		for {
			_, err := chromedp.Click(selector)(ctx, target)
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), isGone) {
				return err
			}
		}
	})
}

// discardOnThePage releases a lock as a person does: follow its link on the first page, press the button, say yes.
func discardOnThePage(t *testing.T, _ mode, r *repository) {
	first, _ := r.open(t, "network", "database")
	second, comment := r.open(t, "network")
	wantText(t, comment, refusedBy(first))

	before, err := r.host.Pull(r.name, first)
	if err != nil {
		t.Fatal(err)
	}
	tab := newTab(t)
	link := chromedp.CSS(`a.lock-link[href*="` + strings.ReplaceAll(r.name, "/", "%252F") + `%252Fnetwork"]`)
	err = chromedp.Do(tab,
		chromedp.Navigate(r.server.URL()+"/"),
		chromedp.Click(link),
		chromedp.WaitVisible(chromedp.ID("discardPlanUnlock")),
	)
	if err != nil {
		t.Fatalf("follow the lock's link on the first page: %v", err)
	}
	heading, err := chromedp.Run(tab, chromedp.Text(chromedp.CSS("section.header")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(heading, r.name+"/network/default") {
		t.Fatalf("the page of the lock is headed %q", heading)
	}
	discard(t, tab)
	wantText(t, r.commentAfter(t, first, lastComment(before)), "**discarded** via the Atlantis UI")
	r.wantHolders(t, map[string]int{"database": first})
	wantText(t, r.command(t, second, "atlantis plan"), planned)
	r.wantHolders(t, map[string]int{"database": first, "network": second})
}

// discard presses the button on a lock's page, and says yes.
func discard(t *testing.T, tab context.Context) {
	t.Helper()
	err := chromedp.Do(tab,
		chromedp.Click(chromedp.ID("discardPlanUnlock")),
		chromedp.WaitVisible(chromedp.ID("discardYes")),
		standStill(),
		chromedp.Click(chromedp.ID("discardYes")),
		chromedp.WaitVisible(chromedp.CSS("p.js-discard-success")),
	)
	if err != nil {
		t.Fatalf("discard the lock on its page: %v", err)
	}
}
