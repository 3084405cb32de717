//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/atlock/atlock/go/dev/internal/githost"
)

const label = "do-not-unlock"

// withLabel is the mode with --disable-unlock-label.
func withLabel(of mode) mode {
	settings := of.settings
	of.settings = func(w *world) ([]string, string) {
		flags, content := settings(w)
		return append(flags, "--disable-unlock-label="+label), content
	}
	return of
}

// TestLocksAreReleasedFromThePage selects locks as a person does. The page refreshes itself meanwhile, and the selection stays.
func TestLocksAreReleasedFromThePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, queueSled)
	infra, platform := w.repository(t, "acme/infra"), w.repository(t, "acme/platform")
	first, _ := infra.open(t, "app", "database", "network")
	other, _ := platform.open(t, "app")
	second, comment := infra.open(t, "network")
	wantText(t, comment, refusedBy(first), "next in queue")

	tab := newTab(t)
	box := func(project string) chromedp.CSS {
		return chromedp.CSS(`input[name="lock"][value="` + keyIn("acme/infra", project) + `"]`)
	}
	if err := chromedp.Do(tab, chromedp.Navigate(w.server.URL()+"/locking"), clickLive(box("app")), clickLive(box("network"))); err != nil {
		t.Fatalf("select two locks: %v", err)
	}
	w.waitForRefresh(t, tab)
	for project, want := range map[string]bool{"app": true, "network": true, "database": false} {
		script := `document.querySelector('input[name="lock"][value="` + keyIn("acme/infra", project) + `"]').checked`
		if is, err := chromedp.Run(tab, chromedp.Evaluate[bool](script)); err != nil || is != want {
			t.Fatalf("after a refresh, %s is selected: %t, %v", project, is, err)
		}
	}
	before := infra.waitFor(t, first, "the pull request", func(githost.Pull) bool { return true })
	wantOnPage(t, tab, "Release 2 locks?", clickLive("#release p.act button"))
	infra.wantHolders(t, map[string]int{"app": first, "database": first, "network": first})
	wantOnPage(t, tab, "2 of 2 locks are released", chromedp.Click(chromedp.CSS(`button[name="release"]`)))

	told := infra.commentAfter(t, first, lastComment(before))
	wantText(t, told, "The plan for dir: `app` workspace: `default` was **discarded**", "dir: `network` workspace: `default` was **discarded**")
	infra.eventuallyHolders(t, map[string]int{"database": first})
	wantText(t, infra.command(t, second, "atlantis plan"), planned) // the lock is kept for it
	answer := infra.command(t, first, "atlantis apply")
	wantText(t, answer, applied)
	wantNoText(t, answer, "dir: `network`")
	platform.wantHolders(t, map[string]int{"app": other})
}

// waitForRefresh waits until the page's script has fetched the page again.
func (w *world) waitForRefresh(t *testing.T, tab context.Context) {
	t.Helper()
	const script = `document.querySelector('[data-live="updated"]').textContent`
	first, err := chromedp.Run(tab, chromedp.Evaluate[string](script))
	for deadline := time.Now().Add(answerLimit); err == nil; time.Sleep(100 * time.Millisecond) {
		var now string
		if now, err = chromedp.Run(tab, chromedp.Evaluate[string](script)); now != first && err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the page does not refresh itself")
		}
	}
	t.Fatal(err)
}

// wantOnPage does something and waits for the page that says this.
func wantOnPage(t *testing.T, tab context.Context, text string, does chromedp.Action[chromedp.Void]) {
	t.Helper()
	page := ""
	if err := chromedp.Do(tab, does); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(answerLimit); !strings.Contains(page, text); time.Sleep(50 * time.Millisecond) {
		var err error
		page, err = chromedp.Run(tab, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the page does not say %q, but: %s (%v)", text, page, err)
		}
	}
}

// releaseAll releases all locks of a pull request by the page's forms, and returns the last answer. A plan is not quite over when it comments.
func (r *repository) releaseAll(t *testing.T, number int) string {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
		if answer := r.releaseAllNow(t, number); !strings.Contains(answer, "try again when that is over") || time.Now().After(deadline) {
			return answer
		}
	}
}

func (r *repository) releaseAllNow(t *testing.T, number int) string {
	t.Helper()
	send := func(form url.Values) string {
		response, err := http.PostForm(r.server.URL()+"/locking/release", form)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s (%v)", response.Status, text, err)
		}
		return string(text)
	}
	first := send(url.Values{"all": {fmt.Sprintf("pull %d %s", number, r.name)}})
	form := url.Values{"release": {"yes"}}
	for _, part := range strings.Split(first, `name="lock" value="`)[1:] {
		value, _, _ := strings.Cut(part, `"`)
		form.Add("lock", value)
	}
	return send(form)
}

// TestTheLabelBindsThePages: with stock Atlantis, a label that forbids `atlantis unlock` forbids nothing on the page.
func TestTheLabelBindsThePages(t *testing.T) {
	for _, mode := range []mode{stockBolt, strictBolt, queueSled} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t, withLabel(mode)).repository(t, "acme/infra")
			first, comment := r.open(t, "network")
			wantText(t, comment, planned)
			if _, err := r.host.Label(r.name, first, label); err != nil {
				t.Fatal(err)
			}
			wantText(t, r.command(t, first, "atlantis unlock"), "Not allowed to unlock PR with "+label+" label")
			r.wantHolders(t, map[string]int{"network": first})
			err := r.server.Discard(t.Context(), r.key("network"))
			if mode.stock {
				if err != nil {
					t.Fatal(err)
				}
				r.wantHolders(t, map[string]int{})
				return
			}
			if err == nil {
				t.Fatal("Atlantis's page discards the lock")
			}
			wantText(t, err.Error(), `has the label "`+label+`"`)
			tab := newTab(t)
			page := "/lock?id=" + url.QueryEscape(url.QueryEscape(r.key("network")))
			if err := chromedp.Do(tab,
				chromedp.Navigate(r.server.URL()+page),
				chromedp.Click(chromedp.ID("discardPlanUnlock")),
				chromedp.WaitVisible(chromedp.ID("discardYes")),
				standStill(),
			); err != nil {
				t.Fatal(err)
			}
			wantOnPage(t, tab, "remove the label there and try again", chromedp.Click(chromedp.ID("discardYes")))
			wantText(t, r.releaseAll(t, first), "0 of 1 lock is released", "has the label &#34;"+label+"&#34;")
			r.wantHolders(t, map[string]int{"network": first})
			if _, err := r.host.Label(r.name, first); err != nil {
				t.Fatal(err)
			}
			wantText(t, r.releaseAll(t, first), "1 of 1 lock is released")
			r.wantHolders(t, map[string]int{})
		})
	}
}

// TestASiblingInTheFolderStays: of two named projects in a folder, stock Atlantis marks the first as discarded when the second is.
func TestASiblingInTheFolderStays(t *testing.T) {
	const projects = "version: 3\nprojects:\n- {name: blue, dir: network}\n- {name: green, dir: network, workspace: default}\n"
	for _, mode := range []mode{stockBolt, strictBolt, queueSled} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			r := newWorld(t, mode).repository(t, "acme/infra")
			pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "two projects", map[string]string{
				"atlantis.yaml": projects, "network/change.tf": "resource \"null_resource\" \"another\" {}\n",
			})
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, r.commentAfter(t, pull.Number, 0), "project: `blue`", "project: `green`")
			r.waitFor(t, pull.Number, "the end of the plan", func(p githost.Pull) bool { // the comment comes before the pull status is written
				status, _ := p.Status("atlantis/plan")
				return status.State == "success"
			})
			if err := r.server.Discard(t.Context(), r.key("network")+"green"); err != nil {
				t.Fatal(err)
			}
			answer := r.command(t, pull.Number, "atlantis apply -p blue")
			if mode.stock {
				wantNoText(t, answer, applied)
				return
			}
			wantText(t, answer, applied)
			wantNoText(t, r.command(t, pull.Number, "atlantis apply -p green"), applied)
		})
	}
}
