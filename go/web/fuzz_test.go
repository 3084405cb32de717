package web

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

// What comes in by queries, forms and bodies, and what goes out into pages. `go test` goes through the seeds, and `make fuzz` on from there.

// noneKnown knows nothing beside the locks themselves.
type noneKnown struct{ Database }

func (noneKnown) LockInfo([]string) ([]atlock.LockInfo, error) { return nil, errors.New("not known") }

// pageOf is /locking with one lock of these names, for this query.
func pageOf(t *testing.T, query url.Values, text string) string {
	t.Helper()
	lock := models.ProjectLock{
		Project:   models.Project{RepoFullName: "acme/" + text, Path: text},
		Pull:      models.PullRequest{Num: 7, URL: text},
		User:      models.User{Username: text},
		Workspace: text,
	}
	data := pageData{
		Now: time.Unix(1, 0), State: state{Level: bad, Headline: text, Because: []string{text}}, Warnings: []string{text},
		Facts: []fact{{text, text, ""}}, Fallbacks: []fallbackView{{Cause: text}}, Repos: []string{text},
		Locks: newLockTable(noneKnown{}, atlock.ModeHybrid, query, []models.ProjectLock{lock}, waiting{}, nil),
	}
	var html bytes.Buffer
	if err := pageTemplate.Execute(&html, data); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return html.String()
}

// shape is what of a page is markup: its signs, and nothing else.
func shape(page string) string {
	return strings.Map(func(sign rune) rune {
		if strings.ContainsRune("<>\"'", sign) {
			return sign
		}
		return -1
	}, strings.ReplaceAll(page, "<wbr>", "")) // of which a long text has more
}

// Texts of strangers are text on the page: whatever they are, the markup is that of a page with harmless ones.
func FuzzPage(f *testing.F) {
	for _, seed := range []string{
		"x", `<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='x`, "`", "javascript:alert(1)", `</script>`, "<!--", "\x00", "\xff<",
		"\u2028", "a\r\nSet-Cookie: x=y", "{{.Locks}}", "https://ann:secret@example.com/7", "%3Cscript%3E", "&lt;script&gt;", "+ADw-script+AD4-",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if webAddress(text) != "" || strings.TrimSpace(text) == "" {
			return // a link more, or a text less
		}
		harmless, hostile := pageOf(t, nil, "x"), pageOf(t, nil, text)
		if shape(harmless) != shape(hostile) {
			t.Fatalf("%q is markup on the page:\n%s", text, hostile)
		}
		query := url.Values{"filter": {"acme " + text}, "page": {text}}
		if len(pageOf(t, query, text)) == 0 {
			t.Fatalf("%q: no page", text)
		}
		filtered := func(filter string) string { return shape(pageOf(t, url.Values{"filter": {"nowhere " + filter}}, "y")) }
		if filtered("z") != filtered("z"+text) {
			t.Fatalf("%q is markup in the filter", text)
		}
	})
}

// Any query gives a page of the table whose links lead to the page before and the page behind, with the same filter.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "page=2", "page=-1", "page=99999999999999999999", "filter=acme&page=3", "filter=%00", "filter=%ff&page=1", "filter=a&filter=b", ";", "page=2;filter=x", "sort=-pull&page=2", "sort=--age", "sort=waiting", "sort=%00",
		"filter=" + strings.Repeat("x", longestFilter+1), "%zz",
	} {
		f.Add(seed)
	}
	var locks []models.ProjectLock
	for path := range 3*rowsPerPage - 1 {
		locks = append(locks, models.ProjectLock{Project: models.Project{RepoFullName: "acme/infra", Path: strings.Repeat("a", path)}, Workspace: "w"})
	}
	f.Fuzz(func(t *testing.T, raw string) {
		request := httptest.NewRequest(http.MethodGet, PagePath, nil)
		request.URL.RawQuery = raw
		query := request.URL.Query()
		table := newLockTable(noneKnown{}, atlock.ModeHybrid, query, locks, waiting{}, nil)
		if len(table.Rows) > rowsPerPage || table.Matching > table.All || table.Matching > 0 && len(table.Rows) == 0 {
			t.Fatalf("%q: %d rows of %d of %d", raw, len(table.Rows), table.Matching, table.All)
		}
		for _, link := range []string{table.Previous, table.Following} {
			parsed, err := url.ParseQuery(strings.TrimPrefix(link, "?"))
			if err != nil || link != "" && (parsed.Get("filter") != query.Get("filter") || sortingOf(parsed) != sortingOf(query)) {
				t.Fatalf("%q: the link %q: %v", raw, link, err)
			}
		}
		if name := pageName(request); len(name) > 20+6*longestFilter {
			t.Fatalf("%q: the name of its page is %d bytes long", raw, len(name))
		}
	})
}

// No answer has the password of a URL, whatever stands before and behind it.
func FuzzCredentials(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"redis", "/0"}, {"rediss://", " x"}, {"https://a@", "://"}, {"x://\"", "'"}, {"https://", "@"}, {"a:b", "\n://c@d"}, {"://", "://"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, behind string) {
		for _, address := range []string{"https://ann:" + secretText + "@example.com", "redis://:" + secretText + "@10.0.0.1:6379", "ssh://" + secretText + "@host"} {
			if shown := withoutCredentials(before + " " + address + behind); strings.Contains(shown, secretText) {
				t.Fatalf("%q %q %q: %q", before, address, behind, shown)
			}
		}
	})
}

const secretText = "hunter2hunter2"

// A link to a pull request leads to a web page, and logs nobody in.
func FuzzWebAddress(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/7", "javascript:alert(1)", "https://ann:secret@example.com", "//example.com", "HTTPS://x", "http:\\\\x", "\x00https://x", "data:,x",
		"https://[::1]:80/", "http://%41:%42@x/", "https:opaque",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		link := webAddress(text)
		if link == "" {
			return
		}
		parsed, err := url.Parse(link)
		if err != nil || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.User != nil {
			t.Fatalf("%q: %q, %v", text, link, err)
		}
	})
}

// What the page's forms send back names what was shown, and nothing else is taken for it.
func FuzzForms(f *testing.F) {
	for _, seed := range []string{
		"7.5.1700000000000000000 acme/infra/a/default/", "7 acme/infra", "7.5.x a", "7.5.1 ", "-1.0.-1 \x00", "+7.05.1 a", "18446744073709551616.1.1 a", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if asked, err := asShown(text); err == nil {
			again, err := asShown(shownAs(asked.Key, asked.Grant))
			if err != nil || again.Key != asked.Key || again.Grant.Pull != asked.Grant.Pull || again.Grant.Token != asked.Grant.Token ||
				!again.Grant.Taken.Equal(asked.Grant.Taken) {
				t.Fatalf("%q: %+v, and again %+v, %v", text, asked, again, err)
			}
		} else if len(err.Error()) > 500 {
			t.Fatalf("%q: %v", text, err)
		}
		if repo, num, err := pullNamed(text); err == nil {
			if other, otherNum, err := pullNamed(pullName(repo, num)); err != nil || other != repo || otherNum != num {
				t.Fatalf("%q: %q %d, and again %q %d", text, repo, num, other, otherNum)
			}
		}
	})
}

// A body is one JSON value of the wanted shape, of a bounded size, or the answer says what is wrong with it.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"repo":"acme/infra","reason":"r"}`, `{"repo":1}`, `{"unknown":1}`, `{} {}`, `{}x`, ``, `null`, `[]`, "\xff", `{"repo":"` + strings.Repeat("x", longestBody) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var asked atlock.FreezeRequest
		err := readBody(httptest.NewRequest(http.MethodPost, FreezesPath, bytes.NewReader(body)), &asked)
		if err == nil && len(body) > longestBody {
			t.Fatalf("%d bytes are read", len(body))
		}
		if fault, ok := errors.AsType[fault](err); err != nil && (!ok || fault.Error() == "") {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

// A page of Atlantis gets through as it is, in whatever pieces it is written, but for one insertion behind the point.
func FuzzInsertion(f *testing.F) {
	f.Add([]byte("<html>"+insertionPoint+"</html>"), 7)
	f.Add([]byte(insertionPoint+insertionPoint), 1)
	f.Add(bytes.Repeat([]byte("<p class="), searched/8), 1000)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, page []byte, piece int) {
		if piece < 1 || piece > len(page) {
			piece = max(len(page), 1)
		}
		const link = "<link>"
		recorder := httptest.NewRecorder()
		writer := &insertingWriter{ResponseWriter: recorder, link: []byte(link)}
		for rest := page; len(rest) > 0; {
			part := rest[:min(piece, len(rest))]
			rest = rest[len(part):]
			if written, err := writer.Write(part); err != nil || written != len(part) {
				t.Fatalf("%d of %d bytes, %v", written, len(part), err)
			}
		}
		if err := writer.finish(); err != nil {
			t.Fatal(err)
		}
		got := recorder.Body.String()
		at := bytes.Index(page, []byte(insertionPoint))
		with := string(page)
		if at >= 0 {
			at += len(insertionPoint)
			with = string(page[:at]) + link + string(page[at:])
		}
		if got != with && (got != string(page) || at >= 0 && at <= searched) {
			t.Fatalf("%q in pieces of %d: %q", page, piece, got)
		}
	})
}
