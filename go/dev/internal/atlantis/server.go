// Package atlantis runs an Atlantis server as a child process: a stock one or the linked one, against a stand-in for a Git host
// and for terraform. The end-to-end tests and the demonstration use it.
package atlantis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atlock/atlock/go/dev/internal/faketerraform"
	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
)

const (
	host = "127.0.0.1"
	// startLimit is generous: an idle machine needs well under two seconds.
	startLimit = 60 * time.Second
	pollEvery  = 20 * time.Millisecond
	// stopLimit is how long a server may take to stop in good order before it is killed. Atlantis waits for commands under way.
	stopLimit = 60 * time.Second
)

// User is the account that Atlantis has on the Git host, and Token its token there. APIToken is what Atlantis's own API asks for.
const (
	User     = "atlantis"
	Token    = "the-git-hosts-token"
	APIToken = "the-api-token"
)

// Options says how a server is started.
type Options struct {
	// Binary is the server's program.
	Binary string
	// Port is where it listens on 127.0.0.1.
	Port int
	// Folder has everything of the server's: its data folder "data", the stand-in "bin/terraform", its home folder, its log.
	Folder string
	// GitHost is the stand-in's address.
	GitHost string
	// GitLab: the stand-in is GitLab, for a release that knows no Gitea.
	GitLab bool
	// WebhookSecret is what the webhooks are signed with; empty for none.
	WebhookSecret string
	// Args are further flags, such as --locking-config=FILE.
	Args []string
	// Env holds further environment variables.
	Env map[string]string
}

// Server is a running Atlantis.
type Server struct {
	options Options
	process *child.Process
	started bool // it ran before
	log     *os.File
	client  *http.Client
}

var (
	// ErrPortTaken says that another program listens where the server should.
	ErrPortTaken = errors.New("the port is taken by another program")
	// ErrPortForbidden says that this user may not listen there.
	ErrPortForbidden = errors.New("this user may not listen on the port")
)

// Start runs a server and returns once it answers.
func Start(ctx context.Context, options Options) (*Server, error) {
	s := &Server{options: options, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Restart starts the server again, as it was started or with what Change made of that, after Stop or Kill.
func (s *Server) Restart(ctx context.Context) error {
	if s.process != nil {
		return errors.New("the server is still running; stop it first")
	}
	if err := s.waitPortFree(ctx); err != nil {
		return err
	}
	cmd, err := s.command()
	if err != nil {
		return err
	}
	s.started = true
	if s.process, err = child.Start(cmd); err != nil {
		return errors.Join(err, s.log.Close())
	}
	if err := s.waitReady(ctx); err != nil {
		s.Kill()
		return fmt.Errorf("%s: %w; the end of its log, %s:\n%s", s.options.Binary, err, s.LogFile(), s.endOfLog())
	}
	return nil
}

// Change changes how the next Restart starts the server.
func (s *Server) Change(how func(*Options)) { how(&s.options) }

// waitPortFree fails when the port is in use. After a kill it may be, for a moment, by our own server: a program that this was
// just about to start has a copy of its files until it runs.
func (s *Server) waitPortFree(ctx context.Context) error {
	for deadline := time.Now().Add(startLimit); ; {
		err := PortFree(s.options.Port)
		if err == nil || !s.started || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}

// PortFree fails when the server cannot have the port, which the server itself would tell of only in its log.
func PortFree(port int) error {
	err := freeport.Check(port)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("port %d: %w: %w", port, ErrPortForbidden, err)
	default:
		return fmt.Errorf("port %d: %w: %w", port, ErrPortTaken, err)
	}
}

func (s *Server) command() (*exec.Cmd, error) {
	programs, home := filepath.Join(s.options.Folder, "bin"), filepath.Join(s.options.Folder, "home")
	if err := faketerraform.Install(programs); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.log, err = os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	arguments := []string{
		"server",
		"--port=" + strconv.Itoa(s.options.Port),
		"--atlantis-url=" + s.URL(),
		"--data-dir=" + s.DataDir(),
		"--repo-allowlist=*",
		"--tf-download=false",
	}
	if s.options.GitLab {
		arguments = append(arguments, "--gitlab-hostname="+s.options.GitHost, "--gitlab-user="+User)
	} else {
		arguments = append(arguments, "--gitea-base-url="+s.options.GitHost, "--gitea-user="+User)
	}
	cmd := exec.Command(s.options.Binary, append(arguments, s.options.Args...)...)
	cmd.Dir = s.options.Folder
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Env = s.environment(programs, home)
	return cmd, nil
}

// environment is ours without what would change the server or lead it away from the stand-ins: settings of Atlantis, proxies,
// and the user's git and terraform configuration, which is found by the home folder.
func (s *Server) environment(programs, home string) []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(entry), "=")
		return strings.HasPrefix(name, "ATLANTIS_") || strings.HasPrefix(name, "GIT_") || strings.HasPrefix(name, "TF_") ||
			strings.HasSuffix(name, "_PROXY") || name == "HOME" || name == "PATH" || name == "XDG_CONFIG_HOME"
	})
	env = append(env,
		"HOME="+home,
		"PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"),
		"ATLANTIS_"+s.gitHost()+"_TOKEN="+Token,
		"ATLANTIS_API_SECRET="+APIToken,
	)
	if s.options.WebhookSecret != "" {
		env = append(env, "ATLANTIS_"+s.gitHost()+"_WEBHOOK_SECRET="+s.options.WebhookSecret)
	}
	for _, name := range slices.Sorted(maps.Keys(s.options.Env)) {
		env = append(env, name+"="+s.options.Env[name])
	}
	return env
}

// gitHost is the kind of Git host, as variables have it.
func (s *Server) gitHost() string {
	if s.options.GitLab {
		return "GITLAB"
	}
	return "GITEA"
}

func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it did not answer at %s within %v", s.URL(), startLimit))
	defer cancel()
	for {
		if code, _, err := s.Get(ctx, "/healthz"); err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("it ended at once, with exit code %d", s.process.ExitCode())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// URL is the server's address.
func (s *Server) URL() string {
	return "http://" + net.JoinHostPort(host, strconv.Itoa(s.options.Port))
}

// DataDir is the server's data folder.
func (s *Server) DataDir() string { return filepath.Join(s.options.Folder, "data") }

// LogFile is where the server's output goes.
func (s *Server) LogFile() string { return filepath.Join(s.options.Folder, "atlantis.log") }

// PID is the server's process id, 0 when it does not run.
func (s *Server) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.PID()
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Stop ends the server in good order. A server that is not running is stopped.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	_ = s.process.Signal(syscall.SIGTERM) // fails only when it has already ended
	select {
	case <-s.process.Done():
		s.Kill()
		return nil
	case <-time.After(stopLimit):
		s.Kill()
		return fmt.Errorf("the server did not stop within %v of SIGTERM, and was killed; its log is %s", stopLimit, s.LogFile())
	}
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.process.Stop(syscall.SIGKILL)
	s.process = nil
	_ = s.log.Close() // the child has written what it had to
}

// Get asks the server for a page, as who knows Atlantis's API secret, and returns its status code and text.
func (s *Server) Get(ctx context.Context, path string) (int, string, error) {
	return s.Do(ctx, http.MethodGet, path, map[string]string{"X-Atlantis-Token": APIToken})
}

// Call sends a request to what needs Atlantis's API secret.
func (s *Server) Call(ctx context.Context, method, path, body string) (int, string, error) {
	return s.send(ctx, method, path, strings.NewReader(body), map[string]string{"X-Atlantis-Token": APIToken})
}

// Do sends a request without a body to the server, with further headers, and returns the answer's status code and text.
func (s *Server) Do(ctx context.Context, method, path string, header map[string]string) (int, string, error) {
	return s.send(ctx, method, path, http.NoBody, header)
}

func (s *Server) send(ctx context.Context, method, path string, body io.Reader, header map[string]string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.URL()+path, body)
	if err != nil {
		return 0, "", err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// Lock is what Atlantis's API tells of a lock.
type Lock struct {
	Name        string
	ProjectRepo string
	PullID      int `json:",string"`
	User        string
	Workspace   string
}

// Locks lists the locks that the server's API tells of, or in releases without that its page, sorted by name.
func (s *Server) Locks(ctx context.Context) ([]Lock, error) {
	code, body, err := s.Get(ctx, "/api/locks")
	if err != nil {
		return nil, err
	}
	if code == http.StatusNotFound {
		return s.locksOnPage(ctx)
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("GET /api/locks answered %d: %s", code, body)
	}
	var answer struct{ Locks []Lock }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return nil, fmt.Errorf("GET /api/locks answered %q: %w", body, err)
	}
	slices.SortFunc(answer.Locks, func(a, b Lock) int { return strings.Compare(a.Name, b.Name) })
	return answer.Locks, nil
}

// lockRow is a lock on Atlantis's page: name, repository, pull request, workspace, user.
var lockRow = regexp.MustCompile(`(?s)<a class="lock-link" href="[^"]*/lock\?id=([^"]*)">\s*<span class="lock-reponame">(\S*) #(-?\d+)</span>` +
	`.*?<code>(.*?)</code>.*?<span class="lock-username">(.*?)</span>`)

func (s *Server) locksOnPage(ctx context.Context) ([]Lock, error) {
	code, page, err := s.Get(ctx, "/")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("GET / answered %d: %s", code, page)
	}
	var locks []Lock
	for _, row := range lockRow.FindAllStringSubmatch(page, -1) {
		name, err := url.QueryUnescape(html.UnescapeString(row[1]))
		if err == nil {
			name, err = url.QueryUnescape(name) // it is encoded twice
		}
		pull, numberErr := strconv.Atoi(row[3])
		if err = errors.Join(err, numberErr); err != nil {
			return nil, fmt.Errorf("the page names a lock %q: %w", row[1], err)
		}
		locks = append(locks, Lock{Name: name, ProjectRepo: row[2], PullID: pull, User: row[5], Workspace: row[4]})
	}
	if want := strings.Count(page, `class="lock-reponame"`); len(locks) != want {
		return nil, fmt.Errorf("the page has %d locks, of which %d could be read", want, len(locks))
	}
	slices.SortFunc(locks, func(a, b Lock) int { return strings.Compare(a.Name, b.Name) })
	return locks, nil
}

// Discard releases a lock as the page's button does.
func (s *Server) Discard(ctx context.Context, name string) error {
	code, body, err := s.Do(ctx, http.MethodDelete, "/locks?id="+url.QueryEscape(name), nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("discard %s: the server answered %d: %s", name, code, body)
	}
	return err
}

// endOfLog returns the last lines of the log, for an error's text.
func (s *Server) endOfLog() string {
	const limit = 4000
	content, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err.Error()
	}
	if len(content) > limit {
		content = content[len(content)-limit:]
	}
	return string(content)
}
