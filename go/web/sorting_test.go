package web_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/web"
)

// Each head sorts by its column, says so, and turns the order round; filter and page keep it.
func TestTheLocksAreSorted(t *testing.T) {
	database := openQueue(t)
	for i, lock := range [][3]string{{"acme/b", "one", "grace"}, {"acme/a", "two", "ada"}, {"acme/c", "three", "linus"}} {
		taken := newLock(lock[0], lock[1], 30-i)
		taken.User.Username, taken.Workspace, taken.Time = lock[2], lock[1], time.Now().Add(-time.Duration(i)*time.Hour)
		takeLock(t, database, taken)
	}
	for num := 40; num < 42; num++ {
		waitIn(t, database, "acme/c", "three", "three", models.PullRequest{Num: num})
	}
	served := serveAtlantis(t, database)
	for query, wanted := range map[string]string{
		"":                                "b a c",
		"?sort=age":                       "b a c",
		"?sort=-age":                      "c a b",
		"?sort=repository":                "a b c",
		"?sort=-repository":               "c b a",
		"?sort=pull":                      "c a b",
		"?sort=folder":                    "b c a",
		"?sort=workspace":                 "b c a",
		"?sort=holder":                    "a b c",
		"?sort=waiting":                   "c b a",
		"?sort=-waiting":                  "b a c",
		"?sort=store":                     "b a c",
		"?sort=--age":                     "b a c",
		"?sort=-repository&filter=acme+o": "b a",
	} {
		text := must(t, served, web.PagePath+query)
		_, table, _ := strings.Cut(text, `<table class="rows locks">`)
		var shown []string
		for _, repo := range regexp.MustCompile(`data-label="Repository">acme/(.)`).FindAllStringSubmatch(table, -1) {
			shown = append(shown, repo[1])
		}
		if got := strings.Join(shown, " "); got != wanted {
			t.Errorf("%q: %s, not %s", query, got, wanted)
		}
	}
	wantParts(t, must(t, served, web.PagePath+"?sort=-repository&filter=acme"),
		`<th scope="col" aria-sort="descending"><a class="turn" href="/locking?filter=acme&amp;sort=repository#locks">Repository</a></th>`,
		`href="/locking?filter=acme#locks">Age<`, `<input type="hidden" name="sort" value="-repository">`)
	wantParts(t, must(t, served, web.PagePath), `aria-sort="ascending"><a class="turn" href="/locking?sort=-age#locks">Age</a>`, ", the newest first")
	wantParts(t, must(t, served, web.PagePath+"?sort=waiting"), `aria-sort="descending"><a class="turn" href="/locking?sort=-waiting#locks">Waiting</a>`)
}
