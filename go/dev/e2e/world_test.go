//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/dev/internal/githost"
	"github.com/atlock/atlock/go/internal/freeport"
	"github.com/atlock/atlock/go/internal/redistest"
)

// answerLimit bounds a wait for something that Atlantis does. It is generous: two cores run several servers at once.
const answerLimit = 90 * time.Second

// webhookSecret signs the webhooks, so that a server that takes unsigned ones would not be noticed, but a wrong signature would.
const webhookSecret = "the-webhooks-secret"

// world is a Git host and an Atlantis server that belong together, of one test.
type world struct {
	host   *githost.Host
	server *atlantis.Server
	redis  *redistest.Server
	folder string
	// boltDirectly tells that Atlantis's own BoltDB code answers.
	boltDirectly bool
}

// newWorld starts a Git host, a Redis if the mode needs one, and a server in that mode.
func newWorld(t *testing.T, mode mode) *world {
	t.Helper()
	w := newHost(t)
	if mode.redis {
		w.redis = redistest.Start(t, redistest.Options{AppendOnly: true})
	}
	w.start(t, mode)
	return w
}

// newHost starts a Git host, and no server yet.
func newHost(t *testing.T) *world {
	t.Helper()
	folder := t.TempDir()
	host, err := githost.Start(githost.Options{
		Folder: filepath.Join(folder, "repositories"), Address: "127.0.0.1:0", Bot: atlantis.User, Secret: webhookSecret, GitLab: onGitLab(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if unknown := host.Unknown(); len(unknown) > 0 {
			t.Errorf("Atlantis asked the Git host for what the stand-in does not have: %q", unknown)
		}
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{host: host, folder: folder}
	w.makeRoom(t)
	return w
}

// onGitLab tells whether the Git host is GitLab: the oldest releases of Atlantis know no Gitea.
func onGitLab() bool { return os.Getenv("ATLOCK_E2E_GIT_HOST") == "gitlab" }

// kindOfGitHost is what Atlantis's API calls it.
func kindOfGitHost() string {
	if onGitLab() {
		return "Gitlab"
	}
	return "Gitea"
}

// makeRoom makes Atlantis's BoltDB file larger than a test lets it grow. Stock's List reads the file's memory map after its
// transaction (docs/defects.md): when a writer makes the map grow in that moment, the whole server dies of a fault. These tests
// list a lot, and are not about that defect; in a file with room the map stays where it is.
func (w *world) makeRoom(t *testing.T) {
	t.Helper()
	const size = 64 << 20 // sparse
	data := filepath.Join(w.serverFolder(), "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "atlantis.db")
	database, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(database.Close(), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
}

// serverFolder is what atlantis.Options calls Folder.
func (w *world) serverFolder() string { return filepath.Join(w.folder, "atlantis") }

// start starts the server in the mode, on the folder that every server of this world has.
func (w *world) start(t *testing.T, mode mode) {
	t.Helper()
	options := atlantis.Options{
		Folder: w.serverFolder(), GitHost: w.host.URL(), WebhookSecret: webhookSecret, GitLab: onGitLab(),
	}
	options.Binary = mode.binary(t)
	options.Args = mode.arguments(t, w)
	options.Env = mode.env

	var err error
	if options.Port, err = freeport.Take(); err != nil {
		t.Fatal(err)
	}
	server, err := atlantis.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("start the server in mode %s: %v", mode.name, err)
	}
	w.server = server
	w.boltDirectly = mode.boltDirectly
	mode.wantMode(t, server)
	w.host.SetAtlantis(server.URL())
	t.Cleanup(func() {
		server.Kill()
		if t.Failed() {
			keepLog(t, server)
		}
	})
}

// keepLog copies a server's log to where it outlives the test.
func keepLog(t *testing.T, server *atlantis.Server) {
	t.Helper()
	content, err := os.ReadFile(server.LogFile())
	if err != nil {
		t.Logf("the server's log: %v", err)
		return
	}
	path := outputPath(t, strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())+".log")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Logf("the server's log: %v", err)
		return
	}
	t.Logf("the server's log was kept: %s", path)
}

// log is what the server has written so far.
func (w *world) log(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(w.server.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// outputPath is a path in build/e2e.
func outputPath(t *testing.T, name string) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join("..", "..", "..", "build", "e2e"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, name)
}

// stop ends the server in good order.
func (w *world) stop(t *testing.T) {
	t.Helper()
	if err := w.server.Stop(); err != nil {
		t.Fatal(err)
	}
}

// restart starts the server again after stop, or after a kill.
func (w *world) restart(t *testing.T) {
	t.Helper()
	if err := w.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// repository makes a repository with the usual projects, for one test alone.
func (w *world) repository(t *testing.T, name string) *repository {
	t.Helper()
	if err := w.host.CreateRepository(t.Context(), name, githost.ExampleFiles()); err != nil {
		t.Fatal(err)
	}
	return &repository{world: w, name: name}
}

// repository is one on the Git host, with what people do there.
type repository struct {
	*world
	name string
}

// openQuietly opens a pull request that changes no project, so that Atlantis plans nothing by itself, and waits until it has
// looked.
func (r *repository) openQuietly(t *testing.T) int {
	t.Helper()
	pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "a note", map[string]string{unique("NOTE", "md"): "A note.\n"})
	if err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, pull.Number, "the status atlantis/plan", func(p githost.Pull) bool {
		status, ok := p.Status("atlantis/plan")
		return ok && status.State != "pending"
	})
	return pull.Number
}

// open opens a pull request that changes the projects, and returns Atlantis's comment on it.
func (r *repository) open(t *testing.T, changed ...string) (int, string) {
	t.Helper()
	pull, err := r.host.OpenPull(t.Context(), r.name, "ann", "a change", r.change(changed))
	if err != nil {
		t.Fatal(err)
	}
	return pull.Number, r.commentAfter(t, pull.Number, 0)
}

// push pushes a commit that changes the projects, and returns Atlantis's comment on it.
func (r *repository) push(t *testing.T, number int, changed ...string) string {
	t.Helper()
	return r.pushFiles(t, number, r.change(changed))
}

// pushFiles pushes a commit, and returns Atlantis's comment on it. If Atlantis was not quite done with the commit before, it is asked
// to plan.
func (r *repository) pushFiles(t *testing.T, number int, files map[string]string) string {
	t.Helper()
	before, err := r.host.Push(t.Context(), r.name, number, files)
	if err != nil {
		t.Fatal(err)
	}
	comment := r.commentAfter(t, number, lastComment(before))
	if strings.Contains(comment, busy) {
		return r.command(t, number, "atlantis plan")
	}
	return comment
}

// change is a file for each project that no other change has.
func (r *repository) change(changed []string) map[string]string {
	files := map[string]string{}
	for _, project := range changed {
		files[project+"/"+unique("change", "tf")] = "resource \"null_resource\" \"another\" {}\n"
	}
	return files
}

// command comments on the pull request as bob, and returns Atlantis's answer.
func (r *repository) command(t *testing.T, number int, text string) string {
	t.Helper()
	return r.answer(t, r.send(t, number, text))
}

// sent is a comment that Atlantis should answer.
type sent struct {
	number int
	text   string
	id     int64
}

// send comments on the pull request as bob. Atlantis works on it when send returns.
func (r *repository) send(t *testing.T, number int, text string) sent {
	t.Helper()
	comment, err := r.host.Comment(t.Context(), r.name, number, "bob", text)
	if err != nil {
		t.Fatal(err)
	}
	return sent{number: number, text: text, id: comment.ID}
}

// answer returns Atlantis's answer. Told to wait and try again, it does.
func (r *repository) answer(t *testing.T, question sent) string {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
		answer := r.commentAfter(t, question.number, question.id)
		if !strings.Contains(answer, busy) {
			return answer
		}
		if time.Now().After(deadline) {
			t.Fatalf("#%d of %s was busy for %v: %s", question.number, r.name, answerLimit, answer)
		}
		question = r.send(t, question.number, question.text)
	}
}

func (r *repository) commentAfter(t *testing.T, number int, id int64) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), answerLimit, errors.New("Atlantis made no comment"))
	defer cancel()
	comment, err := r.host.CommentAfter(ctx, r.name, number, id)
	if err != nil {
		t.Fatal(err)
	}
	return comment.Body
}

// waitFor waits until the pull request is as wanted.
func (r *repository) waitFor(t *testing.T, number int, what string, wanted func(githost.Pull) bool) githost.Pull {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), answerLimit, fmt.Errorf("%s did not come", what))
	defer cancel()
	pull, err := r.host.WaitFor(ctx, r.name, number, wanted)
	if err != nil {
		t.Fatalf("%v; it is: %+v", err, pull)
	}
	return pull
}

// merge merges the pull request.
func (r *repository) merge(t *testing.T, number int) {
	t.Helper()
	if _, err := r.host.Merge(t.Context(), r.name, number); err != nil {
		t.Fatal(err)
	}
}

// holders maps a project's folder to the number of the pull request that holds its lock, of this repository alone.
func (r *repository) holders(t *testing.T) map[string]int {
	t.Helper()
	held := map[string]int{}
	for _, lock := range r.locks(t) {
		if lock.ProjectRepo != r.name {
			continue
		}
		project := strings.Split(strings.TrimPrefix(lock.Name, r.name+"/"), "/")[0]
		if other, twice := held[project]; twice {
			t.Fatalf("%s of %s has two holders: #%d and #%d", project, r.name, other, lock.PullID)
		}
		held[project] = lock.PullID
	}
	return held
}

// wantHolders fails unless exactly these locks are held in this repository.
func (r *repository) wantHolders(t *testing.T, want map[string]int) {
	t.Helper()
	if got := r.holders(t); !maps.Equal(got, want) {
		t.Fatalf("locks of %s, project to pull request: got %v, want %v", r.name, got, want)
	}
}

// eventuallyHolders waits for exactly these locks, where no comment tells that Atlantis is done.
func (r *repository) eventuallyHolders(t *testing.T, want map[string]int) {
	t.Helper()
	deadline := time.Now().Add(answerLimit)
	for !maps.Equal(r.holders(t), want) {
		if time.Now().After(deadline) {
			t.Fatalf("locks of %s after %v, project to pull request: got %v, want %v", r.name, answerLimit, r.holders(t), want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// locks lists all locks of the server.
func (w *world) locks(t *testing.T) []atlantis.Lock {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); ; {
		locks, err := w.server.Locks(t.Context())
		switch {
		case err == nil:
			return locks
		// The same defect of stock's BoltDB: a value that is overwritten while it is decoded. Asking again is all one can do.
		case !w.boltDirectly || !strings.Contains(err.Error(), "failed to deserialize lock") || time.Now().After(deadline):
			t.Fatal(err)
		}
	}
}

// lockNames lists the names of all locks of the server with their holders, in one text.
func (w *world) lockNames(t *testing.T) string {
	t.Helper()
	var names []string
	for _, lock := range w.locks(t) {
		// Before v0.40 a name does not end in a slash and the project's name, which is empty here.
		names = append(names, fmt.Sprintf("%s by #%d of %s", strings.TrimSuffix(lock.Name, "/"), lock.PullID, lock.User))
	}
	slices.Sort(names)
	return strings.Join(names, "\n")
}

func lastComment(pull githost.Pull) int64 {
	if len(pull.Comments) == 0 {
		return 0
	}
	return pull.Comments[len(pull.Comments)-1].ID
}
