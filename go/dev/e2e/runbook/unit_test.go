//go:build e2e

package runbook

import (
	"errors"
	"fmt"
	"io"
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

	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/internal/child"
)

// unit does what systemctl and journalctl do with the unit of deploy/systemd.
func (s *stage) unit(w http.ResponseWriter, r *http.Request) {
	asked, _ := io.ReadAll(r.Body)
	answer, err := s.unitCommand(strings.TrimPrefix(r.URL.Path, "/"), string(asked))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, answer)
}

var journal = regexp.MustCompile(`^-u atlantis -o cat -n ([0-9]+)$`)

func (s *stage) unitCommand(program, arguments string) (string, error) {
	if found := journal.FindStringSubmatch(arguments); program == "journalctl" && found != nil {
		text, err := os.ReadFile(s.path("journal"))
		lines := strings.SplitAfter(string(text), "\n")
		count, _ := strconv.Atoi(found[1])
		return strings.Join(lines[max(0, len(lines)-1-count):], ""), err
	}
	switch program + " " + arguments {
	case "systemctl start atlantis":
		return "", s.startServer()
	case "systemctl stop atlantis":
		s.stopServer(syscall.SIGTERM)
		return "", nil
	case "systemctl restart atlantis":
		s.stopServer(syscall.SIGTERM)
		return "", s.startServer()
	case "systemctl reload atlantis": // ExecReload of the unit
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.process == nil {
			return "", errors.New("inactive")
		}
		return "", s.process.Signal(syscall.SIGHUP)
	case "systemctl is-active atlantis":
		if !s.running() {
			return "", errors.New("inactive")
		}
		return "active\n", nil
	case "systemctl daemon-reload":
		return "", nil
	}
	return "", fmt.Errorf("the stage has no %s %s", program, arguments)
}

// unit is deploy/systemd/atlantis.service, by the names of its directives.
type unit map[string][]string

func (s *stage) readUnit() (unit, error) {
	text, err := os.ReadFile(filepath.Join(s.root, "deploy/systemd/atlantis.service"))
	read := unit{}
	for line := range strings.Lines(string(text)) {
		if name, value, isDirective := strings.Cut(strings.TrimSpace(line), "="); isDirective && !strings.HasPrefix(name, "#") {
			read[name] = append(read[name], value)
		}
	}
	if err == nil && (read.of("User") != "atlantis" || read.of("Group") != "atlantis") {
		err = fmt.Errorf("the unit runs as %s and %s, and the stage knows atlantis", read.of("User"), read.of("Group"))
	}
	return read, err
}

// of is the value of a directive that stands there once; empty if it does not.
func (u unit) of(name string) string { return strings.Join(u[name], "\n") }

// makeFolders makes the folders that systemd makes before a start, for the unit's user.
func (u unit) makeFolders(s *stage) error {
	for kind, below := range map[string]string{"StateDirectory": "/var/lib/", "LogsDirectory": "/var/log/"} {
		mode, err := strconv.ParseUint(u.of(kind+"Mode"), 8, 32)
		if err != nil {
			return fmt.Errorf("%sMode: %w", kind, err)
		}
		path := s.here(below + u.of(kind))
		if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, os.FileMode(mode)), os.Chown(path, serviceID, serviceID)); err != nil {
			return err
		}
	}
	return nil
}

// startServer runs ExecStart of the unit with the variables of EnvironmentFile.
func (s *stage) startServer() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil && !s.process.Exited() {
		return nil
	}
	for give := time.Now().Add(stopLimit); ; time.Sleep(20 * time.Millisecond) { // a program that was just started may have the port
		err := atlantis.PortFree(s.port)
		if err == nil {
			break
		}
		if time.Now().After(give) {
			return err
		}
	}
	unit, err := s.readUnit()
	if err != nil {
		return err
	}
	if err := unit.makeFolders(s); err != nil {
		return err
	}
	variables, err := os.ReadFile(s.path("etc/atlantis.env"))
	if err != nil {
		return err
	}
	out, err := os.OpenFile(s.path("journal"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	// As systemd starts it: with the unit's user, group and mask, without a privilege, and no core dump.
	limits := "umask " + unit.of("UMask") + "; ulimit -c " + unit.of("LimitCORE") + `; exec "$@"`
	cmd := exec.Command("/usr/bin/setpriv", append([]string{"--no-new-privs", "--", "/bin/sh", "-c", limits, "sh"},
		strings.Fields(s.here(unit.of("ExecStart")))...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serviceID, Gid: serviceID}}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	cmd.Env = []string{s.here(unit.of("Environment")), "TMPDIR=" + s.path("tmp"), "PATH=" + s.path("terraform") + ":" + os.Getenv("PATH")}
	for line := range strings.Lines(string(variables)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			cmd.Env = append(cmd.Env, line)
		}
	}
	s.process, err = child.Start(cmd)
	return err
}

func (s *stage) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil && !s.process.Exited()
}

func (s *stage) stopServer(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	_ = s.process.Signal(signal) // fails only when it has already ended
	select {
	case <-s.process.Done():
	case <-time.After(stopLimit):
		s.process.Stop(syscall.SIGKILL)
	}
	s.process = nil
}

// serving waits until the server answers.
func (s *stage) serving(t *testing.T) {
	t.Helper()
	for give := time.Now().Add(stopLimit); ; time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get("http://" + s.address() + "/healthz")
		if err == nil {
			_ = answer.Body.Close()
			return
		}
		if time.Now().After(give) || !s.running() {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
}
