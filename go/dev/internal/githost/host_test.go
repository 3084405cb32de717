package githost

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"code.gitea.io/sdk/gitea"
)

const fullName = "acme/infra"

// delivery is a webhook as Atlantis receives it.
type delivery struct {
	event, kind string
	body        []byte
}

// receiver takes webhooks in Atlantis's place, and refuses those that are not signed.
type receiver struct {
	mu         sync.Mutex
	deliveries []delivery
}

const secret = "a secret"

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	if ok, err := gitea.VerifyWebhookSignature(secret, request.Header.Get("X-Gitea-Signature"), body); !ok || err != nil {
		http.Error(w, "the signature is wrong", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliveries = append(r.deliveries, delivery{
		event: request.URL.Path + " " + request.Header.Get("X-Gitea-Event"), kind: request.Header.Get("X-Gitea-Event-Type"), body: body,
	})
}

// take returns what came since the last call.
func (r *receiver) take() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.deliveries
	r.deliveries = nil
	return taken
}

// start runs a host with one repository, a receiver of its webhooks, and Gitea's own client.
func start(t *testing.T) (*Host, *receiver, *gitea.Client) {
	t.Helper()
	received := &receiver{}
	atlantis := httptest.NewServer(received)
	t.Cleanup(atlantis.Close)
	host, err := Start(Options{Folder: t.TempDir(), Address: "127.0.0.1:0", Bot: "atlantis", Secret: secret, Atlantis: atlantis.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := host.CreateRepository(t.Context(), fullName, ExampleFiles()); err != nil {
		t.Fatal(err)
	}
	client, err := gitea.NewClient(host.URL(), gitea.SetToken("any"))
	if err != nil {
		t.Fatal(err)
	}
	return host, received, client
}

func open(t *testing.T, host *Host, files map[string]string) Pull {
	t.Helper()
	pull, err := host.OpenPull(t.Context(), fullName, "ann", "a change", files)
	if err != nil {
		t.Fatal(err)
	}
	return pull
}

func TestWebhooksAreGiteas(t *testing.T) {
	host, received, _ := start(t)
	pull := open(t, host, map[string]string{"network/a.tf": "a\n"})
	if _, err := host.Push(t.Context(), fullName, 1, map[string]string{"app/b.tf": "b\n"}); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Comment(t.Context(), fullName, 1, "bob", "atlantis plan"); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Merge(t.Context(), fullName, 1); err != nil {
		t.Fatal(err)
	}
	deliveries := received.take()
	want := []struct{ event, kind, action string }{
		{"/events pull_request", "pull_request", "opened"},
		{"/events pull_request", "pull_request_sync", "synchronized"},
		{"/events issue_comment", "pull_request_comment", "created"},
		{"/events pull_request", "pull_request", "closed"},
	}
	if len(deliveries) != len(want) {
		t.Fatalf("got %d webhooks, want %d", len(deliveries), len(want))
	}
	var payloads [4]struct {
		Action      string             `json:"action"`
		PullRequest *gitea.PullRequest `json:"pull_request"`
		Comment     *gitea.Comment     `json:"comment"`
		Issue       *gitea.Issue       `json:"issue"`
		Repository  *gitea.Repository  `json:"repository"`
	}
	for i, got := range deliveries {
		if err := json.Unmarshal(got.body, &payloads[i]); err != nil {
			t.Fatal(err)
		}
		if got.event != want[i].event || got.kind != want[i].kind || payloads[i].Action != want[i].action {
			t.Errorf("webhook %d: got %s, %s, %s; want %v", i, got.event, got.kind, payloads[i].Action, want[i])
		}
	}
	opened, pushed, commented, merged := payloads[0], payloads[1], payloads[2], payloads[3]
	if opened.PullRequest.Head.Sha != pull.Head || opened.PullRequest.State != gitea.StateOpen || opened.PullRequest.Poster.UserName != "ann" {
		t.Errorf("the webhook of the opening says %+v", opened.PullRequest)
	}
	if pushed.PullRequest.Head.Sha == pull.Head {
		t.Error("the webhook of the push names the commit before it")
	}
	if commented.Comment.Body != "atlantis plan" || commented.Comment.Poster.UserName != "bob" || commented.Issue.Index != 1 || commented.Repository.FullName != fullName {
		t.Errorf("the webhook of the comment says %s", deliveries[2].body)
	}
	if merged.PullRequest.State != gitea.StateClosed || !merged.PullRequest.HasMerged {
		t.Errorf("the webhook of the merge says %+v", merged.PullRequest)
	}
}

func TestCloseIsNoMerge(t *testing.T) {
	host, received, client := start(t)
	open(t, host, map[string]string{"network/a.tf": "a\n"})
	received.take()
	if closed, err := host.ClosePull(t.Context(), fullName, 1); err != nil || closed.State != Closed {
		t.Fatalf("%+v, %v", closed, err)
	}
	var payload struct {
		PullRequest *gitea.PullRequest `json:"pull_request"`
	}
	deliveries := received.take()
	if len(deliveries) != 1 || json.Unmarshal(deliveries[0].body, &payload) != nil {
		t.Fatalf("webhooks: %+v", deliveries)
	}
	asked, _, err := client.GetPullRequest("acme", "infra", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []*gitea.PullRequest{payload.PullRequest, asked} {
		if got.State != gitea.StateClosed || got.HasMerged || got.Mergeable {
			t.Errorf("a closed pull request: %+v", got)
		}
	}
}

func TestWebhookThatIsNotTaken(t *testing.T) {
	host, _, _ := start(t)
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	host.SetAtlantis(refusing.URL)
	pull, err := host.OpenPull(t.Context(), fullName, "ann", "a change", map[string]string{"network/a.tf": "a\n"})
	if !errors.Is(err, ErrWebhook) || !strings.Contains(err.Error(), "404") {
		t.Fatalf("opening a pull request while Atlantis answers 404: %v", err)
	}
	if kept, err := host.Pull(fullName, pull.Number); err != nil || kept.State != Open {
		t.Fatalf("the pull request afterwards: %+v, %v", kept, err)
	}
}

// TestAPI asks with Gitea's own client for everything that Atlantis asks for.
func TestAPI(t *testing.T) {
	host, _, client := start(t)
	pull := open(t, host, map[string]string{"network/a.tf": "a\n", "a name with spaces.md": "b\n"})

	if version, _, err := client.ServerVersion(); err != nil || version == "" {
		t.Errorf("version: %q, %v", version, err)
	}
	if user, _, err := client.GetMyUserInfo(); err != nil || user.UserName != "atlantis" {
		t.Errorf("user: %+v, %v", user, err)
	}
	if found, _, err := client.GetRepo("acme", "infra"); err != nil || found.CloneURL != host.URL()+"/acme/infra.git" {
		t.Errorf("repository: %+v, %v", found, err)
	}
	got, _, err := client.GetPullRequest("acme", "infra", 1)
	if err != nil || got.Head.Sha != pull.Head || got.Head.Ref != "pull-1" || got.Base.Ref != "main" || !got.Mergeable {
		t.Errorf("pull request: %+v, %v", got, err)
	}
	files, response, err := client.ListPullRequestFiles("acme", "infra", 1, gitea.ListPullRequestFilesOptions{})
	if err != nil || len(files) != 2 || files[0].Filename != "a name with spaces.md" || files[1].Filename != "network/a.tf" || response.NextPage != 0 {
		t.Errorf("files: %+v, %v", files, err)
	}
	content, _, err := client.GetContents("acme", "infra", pull.Branch, "network/a.tf")
	if err != nil || content.Content == nil || *content.Content != "YQo=" {
		t.Errorf("content: %+v, %v", content, err)
	}
	if _, response, err := client.GetContents("acme", "infra", "main", "atlantis.yaml"); err == nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("content that is not there: %v", err)
	}
	for _, state := range []gitea.StatusState{gitea.StatusPending, gitea.StatusSuccess} {
		option := gitea.CreateStatusOption{State: state, Context: "atlantis/plan", Description: "as it goes"}
		if _, _, err := client.CreateStatus("acme", "infra", pull.Head, option); err != nil {
			t.Error(err)
		}
	}
	made, _, err := client.CreateIssueComment("acme", "infra", 1, gitea.CreateIssueCommentOption{Body: "a plan"})
	if err != nil || made.Poster.UserName != "atlantis" {
		t.Fatalf("comment: %+v, %v", made, err)
	}
	if _, _, err := client.EditIssueComment("acme", "infra", made.ID, gitea.EditIssueCommentOption{Body: "superseded"}); err != nil {
		t.Error(err)
	}
	if _, _, err := client.PostIssueCommentReaction("acme", "infra", made.ID, "eyes"); err != nil {
		t.Error(err)
	}
	comments, _, err := client.ListIssueComments("acme", "infra", 1, gitea.ListIssueCommentOptions{})
	if err != nil || len(comments) != 1 || comments[0].Body != "superseded" {
		t.Errorf("comments: %+v, %v", comments, err)
	}
	if labels, _, err := client.GetIssueLabels("acme", "infra", 1, gitea.ListLabelsOptions{}); err != nil || len(labels) != 0 {
		t.Errorf("labels: %+v, %v", labels, err)
	}
	if _, err := host.Label(fullName, 1, "wait", "later"); err != nil {
		t.Fatal(err)
	}
	if labels, _, err := client.GetIssueLabels("acme", "infra", 1, gitea.ListLabelsOptions{}); err != nil || len(labels) != 2 || labels[0].Name != "wait" {
		t.Errorf("labels: %+v, %v", labels, err)
	}
	if _, err := host.Approve(fullName, 1, "bob"); err != nil {
		t.Fatal(err)
	}
	reviews, _, err := client.ListPullReviews("acme", "infra", 1, gitea.ListPullReviewsOptions{})
	if err != nil || len(reviews) != 1 || reviews[0].State != gitea.ReviewStateApproved || reviews[0].Reviewer.UserName != "bob" {
		t.Fatalf("reviews: %+v, %v", reviews, err)
	}
	if _, err := client.DismissPullReview("acme", "infra", 1, reviews[0].ID, gitea.DismissPullReviewOptions{}); err != nil {
		t.Error(err)
	}
	if ok, _, err := client.MergePullRequest("acme", "infra", 1, gitea.MergePullRequestOption{Style: gitea.MergeStyleMerge}); err != nil || !ok {
		t.Errorf("merge: %t, %v", ok, err)
	}
	after, err := host.Pull(fullName, 1)
	if err != nil || after.State != Merged || after.ApprovedBy != "" {
		t.Errorf("the pull request at the end: %+v, %v", after, err)
	}
	if status, ok := after.Status("atlantis/plan"); !ok || status.State != "success" || len(after.Statuses) != 1 {
		t.Errorf("statuses: %+v", after.Statuses)
	}

	if unknown := host.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown: %q", unknown)
	}
	if _, _, err := client.ListRepoTags("acme", "infra", gitea.ListRepoTagsOptions{}); err == nil {
		t.Error("the stand-in answers what it does not have")
	}
	if unknown := host.Unknown(); len(unknown) != 1 || unknown[0] != "GET /api/v1/repos/acme/infra/tags" {
		t.Errorf("unknown: %q", unknown)
	}
}

// TestClone clones over HTTP as Atlantis does, with a token in the address.
func TestClone(t *testing.T) {
	host, _, _ := start(t)
	pull := open(t, host, map[string]string{"network/a.tf": "the change\n"})
	folder := filepath.Join(t.TempDir(), "clone")
	address := strings.Replace(host.URL(), "http://", "http://atlantis:token@", 1) + "/acme/infra.git"
	clone := exec.Command("git", "clone", "--quiet", "--depth=1", "--branch", pull.Branch, "--single-branch", address, folder)
	clone.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	if out, err := clone.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for file, want := range map[string]string{"network/a.tf": "the change\n", "app/main.tf": ExampleFiles()["app/main.tf"]} {
		if content, err := os.ReadFile(filepath.Join(folder, file)); err != nil || string(content) != want {
			t.Errorf("%s: %q, %v", file, content, err)
		}
	}
	head := exec.Command("git", "-C", folder, "rev-parse", "HEAD")
	if out, err := head.Output(); err != nil || strings.TrimSpace(string(out)) != pull.Head {
		t.Errorf("the clone's commit is %s, not %s: %v", out, pull.Head, err)
	}
}

func TestMerges(t *testing.T) {
	host, _, _ := start(t)
	open(t, host, map[string]string{"network/main.tf": "the first's\n"})
	open(t, host, map[string]string{"network/main.tf": "the second's\n"})
	open(t, host, map[string]string{"app/other.tf": "the third's\n"})
	for _, number := range []int{1, 3} {
		if merged, err := host.Merge(t.Context(), fullName, number); err != nil || merged.State != Merged {
			t.Fatalf("merge #%d: %+v, %v", number, merged, err)
		}
	}
	if _, err := host.Merge(t.Context(), fullName, 2); !errors.Is(err, ErrBadRequest) || !strings.Contains(err.Error(), "conflicts") {
		t.Fatalf("merge a pull request that conflicts: %v", err)
	}
	for name, act := range map[string]func() error{
		"merge": func() error { _, err := host.Merge(t.Context(), fullName, 1); return err },
		"close": func() error { _, err := host.ClosePull(t.Context(), fullName, 1); return err },
		"push":  func() error { _, err := host.Push(t.Context(), fullName, 1, map[string]string{"a": ""}); return err },
	} {
		if err := act(); !errors.Is(err, ErrNotOpen) {
			t.Errorf("%s a merged pull request: %v", name, err)
		}
	}
	for file, want := range map[string]string{"network/main.tf": "the first's\n", "app/other.tf": "the third's\n"} {
		content, _ := host.repos[fullName].repository.read(t.Context(), mainBranch, file)
		if content != want {
			t.Errorf("%s on the main branch: %q", file, content)
		}
	}
	later := open(t, host, map[string]string{"database/a.tf": "a\n"})
	if len(later.Files) != 1 {
		t.Errorf("a later pull request changes %q", later.Files)
	}
}

func TestRefusals(t *testing.T) {
	host, _, _ := start(t)
	open(t, host, map[string]string{"network/a.tf": "a\n"})
	for what, act := range map[string]func() error{
		"no folder above": func() error { return host.CreateRepository(t.Context(), "../infra", nil) },
		"no api owner":    func() error { return host.CreateRepository(t.Context(), "api/v1", nil) },
		"no file above": func() error {
			_, err := host.OpenPull(t.Context(), fullName, "ann", "t", map[string]string{"../a": ""})
			return err
		},
		"no empty pull":    func() error { _, err := host.OpenPull(t.Context(), fullName, "ann", "t", nil); return err },
		"no empty comment": func() error { _, err := host.Comment(t.Context(), fullName, 1, "ann", " "); return err },
	} {
		if err := act(); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := host.CreateRepository(t.Context(), fullName, nil); !errors.Is(err, ErrExists) {
		t.Errorf("a repository that exists: %v", err)
	}
	if _, err := host.Comment(t.Context(), fullName, 2, "ann", "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a pull request that does not exist: %v", err)
	}
}

func TestWaiting(t *testing.T) {
	host, _, client := start(t)
	open(t, host, map[string]string{"network/a.tf": "a\n"})
	asked, err := host.Comment(t.Context(), fullName, 1, "ann", "atlantis plan")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, _, err := client.CreateIssueComment("acme", "infra", 1, gitea.CreateIssueCommentOption{Body: "planned"})
		failed <- err
	}()
	if answer, err := host.CommentAfter(t.Context(), fullName, 1, asked.ID); err != nil || answer.Body != "planned" {
		t.Fatalf("%+v, %v", answer, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := host.WaitFor(ended, fullName, 1, func(Pull) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("waiting for what does not come: %v", err)
	}
}

func body(t *testing.T, response *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
