//go:build e2e

package runbook

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/dev/internal/faketerraform"
	"github.com/atlock/atlock/go/dev/internal/githost"
	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
	"github.com/atlock/atlock/go/internal/redistest"
)

const (
	repository = "acme/infra"
	// adminPassword is that of Redis's administrator; the server's user has another.
	adminPassword = "the-administrators-password"
	webhookSecret = "the-webhooks-secret"
	apiSecret     = "the-api-secret"
	stopLimit     = 60 * time.Second
	// serviceID is the number of the user and the group atlantis, and operatorID that of who types: somebody without rights, who has sudo. Nobody
	// has these numbers here.
	serviceID  = 61234
	operatorID = 61235
)

// stage is the machine that a document is about: a server as deploy/systemd installs it, Redis, and a Git host. The paths and
// addresses of the document are names for those of the test. Its users are real: the server runs as one, with what the unit says of its folders
// and files, and what is typed without sudo runs as another. So the tests run as root.
//
// Its stage directions:
//
//	new server …          a new machine: "stock" has no atlock yet, "hybrid" is as in deploy/systemd; "small" gives hybrid's
//	                      embedded store a disk of its own that can be filled
//	start                 what systemctl start atlantis does, and waits until the server answers
//	kill                  the server dies
//	redis kill|start|forget|pause|resume|set NAME VALUE|password VALUE
//	                      forget: it starts again without its data; set: a setting, by CONFIG SET; password: the server
//	                      has to log in with this one
//	pull PROJECT: TEXT    somebody opens a pull request that changes this project, and Atlantis's comment has this text
//	comment N BODY: TEXT  somebody comments on the pull request, and Atlantis's answer has this text
//	elsewhere PROJECT N   a stock server on the same Redis takes the lock for its pull request N
//	unreadable PROJECT    the project's key in Redis holds no lock
//	damage                somebody plans, and then the embedded store's folder lacks a file and the server is started
//	disk full|free        the small disk
//	until                 the next command is repeated until it prints what is shown
//	fails                 the next command fails
type stage struct {
	root    string // of the repository
	folder  string
	names   [][2]string // as the documents say, and here
	port    int
	redis   *redistest.Server
	host    *githost.Host
	until   bool
	fails   bool
	mounted bool

	plainRedis string // the port of Redis without TLS

	mu      sync.Mutex // guards process, which a document's command changes, too
	process *child.Process
}

func newStage(t *testing.T, root string) *stage {
	t.Helper()
	s := &stage{root: root}
	t.Cleanup(func() { s.end(t) })
	return s
}

// reset makes a new machine.
func (s *stage) reset(t *testing.T, how []string) {
	t.Helper()
	s.end(t)
	if os.Geteuid() != 0 {
		t.Fatal("these tests make files of several users: run them as root")
	}
	var err error
	s.folder, err = os.MkdirTemp("", "runbook")
	s.must(t, err)
	s.must(t, os.Chmod(s.folder, 0o755))
	for _, name := range []string{"lib", "etc", "etc-redis", "log", "bin", "shims", "systemd", "home", "tmp", "backup"} {
		s.must(t, os.Mkdir(s.path(name), 0o755))
	}
	s.must(t, os.Chown(s.path("home"), operatorID, operatorID))
	s.must(t, os.Chmod(s.path("tmp"), 0o777|os.ModeSticky))
	s.port, err = freeport.Take()
	s.must(t, err)
	plain, err := freeport.Take() // for a stock server, and for Redis's administrator
	s.must(t, err)
	s.redis = redistest.Start(t, redistest.Options{
		AppendOnly: true, Password: adminPassword, TLS: true, ACL: []string{"user default on >" + adminPassword + " ~* &* +@all"},
		Args: []string{"--port", strconv.Itoa(plain)},
	})
	s.plainRedis = strconv.Itoa(plain)
	s.host, err = githost.Start(githost.Options{
		Folder: s.path("repositories"), Address: "127.0.0.1:0", Bot: atlantis.User, Secret: webhookSecret,
		Atlantis: "http://" + s.address(),
	})
	s.must(t, err)
	s.must(t, s.host.CreateRepository(t.Context(), repository, githost.ExampleFiles()))
	s.names = [][2]string{
		{"/tmp", s.path("tmp")}, // first: the others are in the machine's /tmp
		{"/var/lib/atlantis", s.path("lib")}, {"/var/log/atlantis", s.path("log")}, {"/var/backups", s.path("backup")},
		{"/etc/systemd/system", s.path("systemd")}, {"/etc/atlantis", s.path("etc")}, {"/etc/redis/", s.path("etc-redis") + "/"},
		{"/usr/local/bin", s.path("bin")},
		{"127.0.0.1:4141", s.address()}, {"redis.example.com:6379", s.redis.Addr},
	}
	s.must(t, faketerraform.Install(s.path("terraform")))
	s.sources(t)
	s.programs(t)
	s.configure(t)

	for _, word := range how {
		switch word {
		case "stock":
			s.install(t, s.built(t, "ATLOCK_E2E_STOCK", "atlantis-stock"), "atlantis")
			s.must(t, os.Remove(s.path("etc/locking.yaml")))
			s.edit(t, s.path("etc/atlantis.env"), func(text string) string {
				return regexp.MustCompile(`(?m)^ATLANTIS_LOCKING_CONFIG=.*\n`).ReplaceAllString(text, "")
			})
		case "hybrid":
			s.install(t, s.built(t, "ATLOCK_E2E_SERVER", "atlantis"), "atlantis")
			s.install(t, s.commandLine(t), "atlock")
		case "redis": // stock on Redis
			s.edit(t, s.path("etc/atlantis.env"), func(text string) string {
				return text + "ATLANTIS_LOCKING_DB_TYPE=redis\nATLANTIS_REDIS_HOST=127.0.0.1\nATLANTIS_REDIS_PORT=" + s.plainRedis +
					"\nATLANTIS_REDIS_PASSWORD=" + adminPassword + "\n"
			})
		case "small":
			at := s.path("lib/atlock")
			s.must(t, os.Mkdir(at, 0o700))
			options := fmt.Sprintf("size=8m,mode=0700,uid=%[1]d,gid=%[1]d", serviceID)
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", at).CombinedOutput(); err != nil {
				t.Fatalf("this test mounts a tmpfs: run it as root, with CAP_SYS_ADMIN: %v: %s", err, out)
			}
			s.mounted = true
		default:
			t.Fatalf("a new server %q", word)
		}
	}
}

// end stops what runs.
func (s *stage) end(t *testing.T) {
	t.Helper()
	if s.folder == "" {
		return
	}
	if t.Failed() {
		if text, err := os.ReadFile(s.path("journal")); err == nil {
			t.Logf("the server's log:\n%s", text[max(0, len(text)-6000):])
		}
	}
	s.stopServer(syscall.SIGKILL)
	if s.redis != nil {
		s.redis.Kill()
	}
	if s.host != nil {
		if err := s.host.Close(); err != nil {
			t.Error(err)
		}
		s.host = nil
	}
	if s.mounted {
		s.mounted = false
		if out, err := exec.Command("umount", s.path("lib/atlock")).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	}
	if err := os.RemoveAll(s.folder); err != nil {
		t.Error(err)
	}
	s.folder = ""
}

func (s *stage) path(name string) string { return filepath.Join(s.folder, name) }

func (s *stage) address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// here puts the test's names in place of the document's.
func (s *stage) here(text string) string {
	for _, name := range s.names {
		text = strings.ReplaceAll(text, name[0], name[1])
	}
	return text
}

// there does the reverse.
func (s *stage) there(text string) string {
	for _, name := range s.names {
		text = strings.ReplaceAll(text, name[1], name[0])
	}
	return text
}

func (s *stage) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// built is a server's program: the variable's, or what the Makefile builds.
func (s *stage) built(t *testing.T, variable, name string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(s.root, "build", name)
	}
	path, err := filepath.Abs(path)
	s.must(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the server's program is missing: `make %s` builds it, or name another in %s: %v", name, variable, err)
	}
	return path
}

// commandLine is the program atlock that `make lib` builds.
func (s *stage) commandLine(t *testing.T) string {
	t.Helper()
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(s.root, "target")
	}
	path := filepath.Join(target, "release", "atlock")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the command line is missing: `make lib` builds it: %v", err)
	}
	return path
}

func (s *stage) install(t *testing.T, from, name string) {
	t.Helper()
	if out, err := exec.Command("install", "-m", "755", from, s.path("bin/"+name)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// sources is the folder in which the commands run: the repository's, as far as they need it.
func (s *stage) sources(t *testing.T) {
	t.Helper()
	s.must(t, os.MkdirAll(s.path("src/build"), 0o755))
	s.must(t, os.MkdirAll(s.path("src/target/release"), 0o755))
	s.must(t, os.CopyFS(s.path("src/deploy"), os.DirFS(filepath.Join(s.root, "deploy"))))
	for _, name := range []string{"systemd/atlantis.env", "systemd/atlantis.service", "systemd/locking.yaml"} {
		s.edit(t, s.path("src/deploy/"+name), s.here)
	}
	s.must(t, os.Symlink(s.built(t, "ATLOCK_E2E_SERVER", "atlantis"), s.path("src/build/atlantis")))
	s.must(t, os.Symlink(s.built(t, "ATLOCK_E2E_STOCK", "atlantis-stock"), s.path("src/build/atlantis-stock")))
	s.must(t, os.Symlink(s.commandLine(t), s.path("src/target/release/atlock")))
}

// programs puts in place of what would change this machine what changes the stage.
func (s *stage) programs(t *testing.T) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(s.unit), ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(t, err)
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(func() { _ = server.Close() })
	ask := "#!/bin/sh\nexec curl -sS --fail-with-body --data-binary \"$*\" http://" + listener.Addr().String() + "/$(basename \"$0\")\n"
	// Only who types may become root by it.
	become := s.path("shims/become")
	if out, err := exec.Command("install", "-m", "4750", "-o", "0", "-g", strconv.Itoa(operatorID), "/usr/bin/setpriv", become).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sudo := `#!/bin/bash
id=0
if [[ $1 == -u ]]; then
    [[ $2 == atlantis ]] || { echo "sudo: unknown user $2" >&2; exit 1; }
    id=SERVICE
    shift 2
fi
exec BECOME --reuid=0 --regid=0 --clear-groups -- /usr/bin/setpriv --reuid=$id --regid=$id --clear-groups -- "$@"
`
	// The name atlantis is known on the stage alone.
	named := `#!/bin/bash
words=()
for word in "$@"; do [[ $word == atlantis ]] && word=SERVICE; words+=("$word"); done
exec PROGRAM "${words[@]}"
`
	shims := map[string]string{"systemctl": ask, "journalctl": ask, "sudo": sudo, "useradd": "#!/bin/sh\n", "getent": "#!/bin/sh\nexit 2\n"}
	for _, name := range []string{"install", "chgrp", "chown"} {
		path, err := exec.LookPath(name)
		s.must(t, err)
		shims[name] = strings.ReplaceAll(named, "PROGRAM", path)
	}
	for name, text := range shims {
		text = strings.NewReplacer("SERVICE", strconv.Itoa(serviceID), "BECOME", become).Replace(text)
		s.must(t, os.WriteFile(s.path("shims/"+name), []byte(text), 0o755))
	}
}

// configure writes the files that the page about the configuration makes: those of deploy/systemd for this Git host and with secrets, the Redis
// user by the page's own commands, and Redis's own.
func (s *stage) configure(t *testing.T) {
	t.Helper()
	for _, name := range []string{"atlantis.env", "locking.yaml"} {
		text, err := os.ReadFile(filepath.Join(s.root, "deploy/systemd", name))
		s.must(t, err)
		s.write(t, s.path("etc/"+name), s.here(string(text)))
	}
	authority, _, _ := s.redis.CertificateFiles()
	text, err := os.ReadFile(authority)
	s.must(t, err)
	s.must(t, os.WriteFile(s.path("etc/redis-ca.pem"), text, 0o644))
	s.must(t, os.WriteFile(s.path("etc-redis/admin-password"), []byte(adminPassword+"\n"), 0o600))
	s.must(t, os.WriteFile(s.path("etc/api-header"), []byte("X-Atlantis-Token: "+apiSecret+"\n"), 0o600))
	s.command(t, documentedRedisUser(t))
	s.edit(t, s.path("etc/atlantis.env"), func(text string) string {
		var kept strings.Builder
		for line := range strings.Lines(text) {
			name, _, _ := strings.Cut(line, "=")
			switch {
			case strings.HasPrefix(name, "ATLANTIS_GH_"), name == "ATLANTIS_REPO_ALLOWLIST", name == "ATLANTIS_ATLANTIS_URL",
				name == "ATLANTIS_API_SECRET", name == "ATLANTIS_PORT":
			default:
				kept.WriteString(line)
			}
		}
		return kept.String() + strings.Join([]string{
			"ATLANTIS_PORT=" + strconv.Itoa(s.port), "ATLANTIS_ATLANTIS_URL=http://" + s.address(), "ATLANTIS_REPO_ALLOWLIST=*",
			"ATLANTIS_API_SECRET=" + apiSecret, "ATLANTIS_GITEA_BASE_URL=" + s.host.URL(), "ATLANTIS_GITEA_USER=" + atlantis.User,
			"ATLANTIS_GITEA_TOKEN=" + atlantis.Token, "ATLANTIS_GITEA_WEBHOOK_SECRET=" + webhookSecret, "ATLANTIS_TF_DOWNLOAD=false",
		}, "\n") + "\n"
	})
	s.must(t, os.Chown(s.path("etc/atlantis.env"), 0, 0))
	s.must(t, os.Chmod(s.path("etc/atlantis.env"), 0o600))
}

// documentedRedisUser are the commands that make the Redis user.
func documentedRedisUser(t *testing.T) Step {
	t.Helper()
	document, err := Read(repositoryRoot(t), "03-configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range document.Steps {
		if step.Kind == Command && strings.Contains(step.Text, "ACL SETUSER") {
			return step
		}
	}
	t.Fatal("the page has no commands for the Redis user")
	return Step{}
}

// write makes a file that the server's group may read.
func (s *stage) write(t *testing.T, path, text string) {
	t.Helper()
	s.must(t, os.WriteFile(path, []byte(text), 0o640))
	s.must(t, os.Chown(path, 0, serviceID))
	s.must(t, os.Chmod(path, 0o640))
}

func (s *stage) edit(t *testing.T, path string, how func(string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	s.must(t, err)
	s.must(t, os.WriteFile(path, []byte(how(string(text))), 0o640))
}
