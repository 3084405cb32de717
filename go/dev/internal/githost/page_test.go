package githost

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"code.gitea.io/sdk/gitea"
)

// TestPage does what a person does on the page.
func TestPage(t *testing.T) {
	host, received, client := start(t)
	send := func(path string, form url.Values) string {
		t.Helper()
		response, err := http.PostForm(host.URL()+path, form)
		return body(t, response, err)
	}
	page := send("/acme/infra/pulls", url.Values{"title": {"<b>bold</b>"}, "project": {"network", "app"}})
	for _, want := range []string{"acme/infra #1", "&lt;b&gt;bold&lt;/b&gt;", "network/pull_1.tf", "app/pull_1.tf"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the new pull request lacks %q:\n%s", want, page)
		}
	}
	answer := "Ran **Plan**\n\n<script>alert(1)</script>\n\n[here](http://127.0.0.1/lock) [bad](javascript:alert(1))"
	if _, _, err := client.CreateIssueComment("acme", "infra", 1, gitea.CreateIssueCommentOption{Body: answer}); err != nil {
		t.Fatal(err)
	}
	page = send("/acme/infra/pulls/1/comments", url.Values{"body": {"atlantis plan"}, "user": {"bob"}})
	for _, want := range []string{"<strong>Plan</strong>", `href="http://127.0.0.1/lock"`, "bob,"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, bad := range []string{"<script", "javascript:"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	send("/acme/infra/pulls/1/push", url.Values{"project": {"network"}})
	if page = send("/acme/infra/pulls/1/approve", url.Values{"user": {"bob"}}); !strings.Contains(page, "Approved by bob") {
		t.Errorf("the page of an approved pull request:\n%s", page)
	}
	send("/acme/infra/pulls/1/merge", nil)
	if page = send("/acme/infra/pulls/1/close", nil); !strings.Contains(page, "not open") {
		t.Errorf("closing a merged pull request:\n%s", page)
	}
	response, err := http.Get(host.URL() + "/")
	if page = body(t, response, err); !strings.Contains(page, "merged") || !strings.Contains(page, `value="database"`) {
		t.Errorf("the first page:\n%s", page)
	}
	var kinds []string
	for _, delivery := range received.take() {
		kinds = append(kinds, delivery.kind)
	}
	if got, want := fmt.Sprint(kinds), "[pull_request pull_request_comment pull_request_sync pull_request]"; got != want {
		t.Errorf("webhooks: %s, want %s", got, want)
	}
}

// TestForeignPage: a page of another site cannot act here through a visitor's browser.
func TestForeignPage(t *testing.T) {
	host, _, _ := start(t)
	open(t, host, map[string]string{"network/a.tf": "a\n"})
	request, err := http.NewRequest(http.MethodPost, host.URL()+"/acme/infra/pulls/1/merge", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "http://elsewhere.example")
	response, err := http.DefaultClient.Do(request)
	_ = body(t, response, err)
	if pull, err := host.Pull(fullName, 1); err != nil || pull.State != Open {
		t.Errorf("after a form of another site's: %+v, %v", pull, err)
	}
}
