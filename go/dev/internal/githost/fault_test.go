package githost

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	h, err := Start(Options{Folder: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	if err := h.CreateRepository(t.Context(), "acme/infra", ExampleFiles()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.OpenPull(t.Context(), "acme/infra", "ann", "a change", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	ask := func(path string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL()+apiPrefix+"/repos/acme/infra"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	for name, c := range map[string]struct {
		fault Fault
		want  int
		says  string
	}{
		"404":    {Fault{Code: 404}, 404, "fails with 404"},
		"slow":   {Fault{Delay: time.Millisecond}, 200, `"number":1`},
		"silent": {Fault{Silent: true}, 0, "deadline exceeded"},
		"broken": {Fault{Broken: true}, 0, "EOF"},
		"none":   {Fault{}, 200, `"number":1`},
	} {
		if err := h.SetFault("acme/infra", c.fault); err != nil {
			t.Fatal(err)
		}
		if code, body := ask("/pulls/1"); code != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if code, body := ask("/pulls/1/files"); code != 200 {
			t.Errorf("%s: other questions are not answered: %d %s", name, code, body)
		}
	}
	if err := h.SetFault("acme/infra", Fault{}); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteFork("acme/infra", 1); err != nil {
		t.Fatal(err)
	}
	if _, body := ask("/pulls/1"); !strings.Contains(body, `"repo":null`) {
		t.Error(body)
	}
}
