//go:build e2e

package runbook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
)

const (
	// answerLimit bounds a wait for Atlantis or for a state; commandLimit one command.
	answerLimit  = 90 * time.Second
	commandLimit = 2 * time.Minute
)

// TestDocuments does what the documents say.
func TestDocuments(t *testing.T) {
	for _, name := range Documents {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			document, err := Read(repositoryRoot(t), name)
			if err != nil {
				t.Fatal(err)
			}
			s := newStage(t, repositoryRoot(t))
			if name == "02-compatibility.md" {
				s.wantDocumentedRelease(t)
			}
			commands := 0
			for _, step := range document.Steps {
				t.Logf("%s:%d", name, step.Line)
				switch step.Kind {
				case Direction:
					s.direct(t, step.Text)
				case Settings:
					s.settings(t, step)
				case Command:
					commands++
					s.command(t, step)
				}
			}
			if commands == 0 {
				t.Error("the document has no command")
			}
		})
	}
}

// wantDocumentedRelease skips a document that shows what the release of go.mod prints, where another one is tried.
func (s *stage) wantDocumentedRelease(t *testing.T) {
	t.Helper()
	out, err := exec.Command(s.built(t, "ATLOCK_E2E_SERVER", "atlantis"), "version").Output()
	s.must(t, err)
	module, err := os.ReadFile(filepath.Join(s.root, "go", "go.mod"))
	s.must(t, err)
	required := regexp.MustCompile(`runatlantis/atlantis (v\S+)`).FindSubmatch(module)
	if release := string(required[1]); !strings.Contains(string(out), release+" ") {
		t.Skipf("it shows what Atlantis %s prints, and this is %s", release, out)
	}
}

func (s *stage) direct(t *testing.T, text string) {
	t.Helper()
	verb, rest, _ := strings.Cut(text, " ")
	switch verb {
	case "new":
		s.reset(t, strings.Fields(strings.TrimPrefix(rest, "server")))
	case "start":
		s.must(t, s.startServer())
		s.serving(t)
	case "kill":
		s.stopServer(syscall.SIGKILL)
	case "until":
		s.until = true
	case "fails":
		s.fails = true
	case "redis":
		s.directRedis(t, rest)
	case "pull":
		project, want, _ := strings.Cut(rest, ": ")
		s.openPull(t, project, want)
	case "comment":
		number, rest, _ := strings.Cut(rest, " ")
		body, want, _ := strings.Cut(rest, ": ")
		n, err := strconv.Atoi(number)
		s.must(t, err)
		s.commentOn(t, n, body, want)
	case "damage":
		s.damage(t)
	case "unreadable":
		s.must(t, s.redis.Client(t).Set(t.Context(), "pr/"+repository+"/"+rest+"/default/", "no lock", 0).Err())
	case "elsewhere":
		project, number, _ := strings.Cut(rest, " ")
		s.takeElsewhere(t, project, number)
	case "disk":
		s.directDisk(t, rest)
	default:
		t.Fatalf("no stage direction %q", text)
	}
}

func (s *stage) directRedis(t *testing.T, text string) {
	t.Helper()
	verb, rest, _ := strings.Cut(text, " ")
	switch verb {
	case "kill":
		s.redis.Kill()
	case "start":
		s.redis.Restart(t)
	case "forget":
		s.redis.Kill()
		s.must(t, os.RemoveAll(filepath.Join(s.redis.Dir, "appendonlydir")))
		s.redis.Restart(t)
	case "pause":
		s.redis.Pause(t)
	case "resume":
		s.redis.Resume(t)
	case "set":
		name, value, _ := strings.Cut(rest, " ")
		s.must(t, s.redis.Client(t).ConfigSet(t.Context(), name, value).Err())
	case "password":
		client := s.redis.Client(t)
		s.must(t, client.Do(t.Context(), "ACL", "SETUSER", "atlantis", "resetpass", ">"+rest).Err())
		// Who is logged in would stay so.
		s.must(t, client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal").Err())
	default:
		t.Fatalf("no stage direction redis %q", text)
	}
}

// damage takes a file of the embedded store away from a server that is stopped for it and started again.
func (s *stage) damage(t *testing.T) {
	t.Helper()
	s.openPull(t, "network", "Plan: 1 to add")
	s.stopServer(syscall.SIGTERM)
	s.must(t, os.Remove(s.path("lib/atlock/journal")))
	s.must(t, s.startServer())
}

// takeElsewhere takes a lock as a stock server on the same Redis does: it writes stock's key alone, like that of project network.
func (s *stage) takeElsewhere(t *testing.T, project, number string) {
	t.Helper()
	client := s.redis.Client(t)
	key := func(project string) string { return "pr/" + repository + "/" + project + "/default/" }
	text, err := client.Get(t.Context(), key("network")).Result()
	s.must(t, err)
	var lock models.ProjectLock
	s.must(t, json.Unmarshal([]byte(text), &lock))
	lock.Project.Path, lock.User.Username = project, "eve"
	lock.Pull.Num, err = strconv.Atoi(number)
	s.must(t, err)
	written, err := json.Marshal(lock)
	s.must(t, err)
	s.must(t, client.Set(t.Context(), key(project), written, 0).Err())
}

func (s *stage) directDisk(t *testing.T, how string) {
	t.Helper()
	filler := s.path("lib/atlock/filler")
	switch how {
	case "full":
		file, err := os.Create(filler)
		s.must(t, err)
		defer file.Close()
		block := make([]byte, 4096)
		for err == nil {
			_, err = file.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		s.untilTheDiskIsMissed(t)
	case "free":
		s.must(t, os.Remove(filler))
	default:
		t.Fatalf("no stage direction disk %q", how)
	}
}

// untilTheDiskIsMissed takes and releases the global apply lock until the store, which has some room in files that it made
// before, has none left.
func (s *stage) untilTheDiskIsMissed(t *testing.T) {
	t.Helper()
	for give := time.Now().Add(answerLimit); time.Now().Before(give); {
		for _, how := range [][2]string{{http.MethodPost, "/apply/lock"}, {http.MethodDelete, "/apply/unlock"}} {
			request, err := http.NewRequestWithContext(t.Context(), how[0], "http://"+s.address()+how[1], http.NoBody)
			s.must(t, err)
			answer, err := http.DefaultClient.Do(request)
			s.must(t, err)
			_ = answer.Body.Close()
			if answer.StatusCode >= http.StatusInternalServerError {
				return
			}
		}
	}
	t.Fatal("the store goes on without its disk")
}

// openPull opens a pull request that changes the project.
func (s *stage) openPull(t *testing.T, project, want string) {
	t.Helper()
	serial := len(s.host.Pulls(repository)) + 1
	pull, err := s.host.OpenPull(t.Context(), repository, "ann", "a change",
		map[string]string{fmt.Sprintf("%s/change_%d.tf", project, serial): "resource \"null_resource\" \"another\" {}\n"})
	s.must(t, err)
	s.wantAnswer(t, pull.Number, 0, want)
}

func (s *stage) commentOn(t *testing.T, number int, body, want string) {
	t.Helper()
	for give := time.Now().Add(answerLimit); ; {
		made, err := s.host.Comment(t.Context(), repository, number, "bob", body)
		s.must(t, err)
		answer := s.answer(t, number, made.ID)
		// The command before was not quite done, though its comment was there.
		if strings.Contains(answer, "Wait until the previous command is complete") && time.Now().Before(give) {
			continue
		}
		if !strings.Contains(answer, want) {
			t.Fatalf("Atlantis's answer to %q lacks %q:\n%s", body, want, answer)
		}
		return
	}
}

func (s *stage) wantAnswer(t *testing.T, number int, after int64, want string) {
	t.Helper()
	if answer := s.answer(t, number, after); !strings.Contains(answer, want) {
		t.Fatalf("Atlantis's comment on #%d lacks %q:\n%s", number, want, answer)
	}
}

func (s *stage) answer(t *testing.T, number int, after int64) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), answerLimit, errors.New("Atlantis made no comment"))
	defer cancel()
	made, err := s.host.CommentAfter(ctx, repository, number, after)
	s.must(t, err)
	return made.Body
}

// settings checks a settings file, and writes it where the document says.
func (s *stage) settings(t *testing.T, step Step) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "locking.yaml")
	if step.Path != "" {
		path = s.here(step.Path)
	}
	s.write(t, path, s.here(step.Text))
	if _, err := atlock.LoadConfig(path); err != nil {
		t.Fatalf("line %d: %v", step.Line, err)
	}
}

// command runs a block of commands.
func (s *stage) command(t *testing.T, step Step) {
	t.Helper()
	until, fails := s.until, s.fails
	s.until, s.fails = false, false
	for give := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
		out, failure := s.bash(t, step.Text)
		printed := s.there(out)
		wrong := ""
		switch {
		case fails && failure == nil:
			wrong = "it should fail"
		case !fails && failure != nil:
			wrong = failure.Error()
		case step.HasOutput && !Matches(step.Output, printed):
			wrong = "the document shows:\n" + step.Output
		default:
			return
		}
		if !until || time.Now().After(give) {
			t.Fatalf("line %d: %sit printed:\n%s\n%s", step.Line, step.Text, printed, wrong)
		}
	}
}

func (s *stage) bash(t *testing.T, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", s.here(text))
	cmd.Dir = s.path("src")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: operatorID, Gid: operatorID}}
	cmd.Env = []string{"HOME=" + s.path("home"), "LC_ALL=C.UTF-8", "PATH=" + s.path("shims") + ":" + s.path("bin") + ":" + os.Getenv("PATH")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return out.String(), err
}
