//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"github.com/atlock/atlock/go/atlock"
)

// key is the key of the lock of a project in this repository.
func (r *repository) key(project string) string { return r.name + "/" + project + "/default/" }

func quoted(text string) string { return strconv.Quote(text) }

func number(pull int) string { return fmt.Sprintf("#%d", pull) }

// getJSON reads what the server answers to a GET.
func (w *world) getJSON(t *testing.T, path string, into any) {
	t.Helper()
	code, body, err := w.server.Get(t.Context(), path)
	if err == nil && code == http.StatusOK {
		err = json.Unmarshal([]byte(body), into)
	}
	if err != nil || code != http.StatusOK {
		t.Fatalf("GET %s: %d %s %v", path, code, body, err)
	}
}

// explainKey asks why a lock is as it is.
func (w *world) explainKey(t *testing.T, key string) atlock.Explained {
	t.Helper()
	var explained []atlock.Explained
	w.getJSON(t, "/api/locks/explain?id="+url.QueryEscape(key), &explained)
	if len(explained) != 1 || explained[0].Key != key {
		t.Fatalf("%s is explained as %+v", key, explained)
	}
	return explained[0]
}

// discard releases the lock of a project as the page's button does.
func (r *repository) discard(t *testing.T, project string) {
	t.Helper()
	if err := r.server.Discard(t.Context(), r.key(project)); err != nil {
		t.Fatal(err)
	}
}

// wantFreedBy fails unless explain says that this frees the lock of the project.
func (r *repository) wantFreedBy(t *testing.T, project, sentence string) {
	t.Helper()
	if explained := r.explainKey(t, r.key(project)); !slices.Contains(explained.FreesIt, sentence) {
		t.Fatalf("explain does not say %q: %+v", sentence, explained)
	}
}
