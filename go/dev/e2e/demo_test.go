//go:build e2e

package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
)

// demonstration is the program behind `make run`, under way.
type demonstration struct {
	process *child.Process
	stdin   io.Writer

	mu     sync.Mutex
	output strings.Builder
}

// Write takes the program's output.
func (d *demonstration) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.Write(p)
}

func (d *demonstration) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// startDemonstration runs the program; it is built once.
func startDemonstration(t *testing.T, port int, flags ...string) *demonstration {
	t.Helper()
	program, err := buildDemonstration()
	if err != nil {
		t.Fatal(err)
	}
	arguments := []string{"-server=" + hybridSled.binary(t), "-folder=" + filepath.Join(t.TempDir(), "demo"), "-port=" + strconv.Itoa(port)}
	cmd := exec.Command(program, append(arguments, flags...)...)
	d := &demonstration{}
	cmd.Stdout, cmd.Stderr = d, d
	if d.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if d.process, err = child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.process.Stop(syscall.SIGKILL) })
	return d
}

var buildDemonstration = sync.OnceValues(func() (string, error) {
	program, err := filepath.Abs(filepath.Join("..", "..", "..", "build", "atlantis-demo"))
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", program, "../cmd/demo").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return program, nil
})

// wait waits until the program's output has the text as often.
func (d *demonstration) wait(t *testing.T, text string, times int) {
	t.Helper()
	for deadline := time.Now().Add(answerLimit); strings.Count(d.text(), text) < times; time.Sleep(20 * time.Millisecond) {
		if d.process.Exited() || time.Now().After(deadline) {
			t.Fatalf("the demonstration does not say %q %d times, but:\n%s", text, times, d.text())
		}
	}
}

// wantEnd waits for the program's end. Nothing that it started may be left.
func (d *demonstration) wantEnd(t *testing.T, code int) {
	t.Helper()
	select {
	case <-d.process.Done():
	case <-time.After(answerLimit):
		t.Fatalf("the demonstration does not end; its output:\n%s", d.text())
	}
	if got := d.process.ExitCode(); got != code {
		t.Fatalf("the demonstration ends with exit code %d, not %d; its output:\n%s", got, code, d.text())
	}
	for _, match := range regexp.MustCompile(`process (\d+)`).FindAllStringSubmatch(d.text(), -1) {
		pid, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
}

// TestDemonstrationOnce is `make run ONCE=1`, and the same with MODE=hybrid.
func TestDemonstrationOnce(t *testing.T) {
	for mode, texts := range map[string][]string{
		"embedded": nil,
		"hybrid":   {"Redis is killed", "Redis is back", "Atlantis tries it again ", "Redis decides"},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			port, err := freeport.Take()
			if err != nil {
				t.Fatal(err)
			}
			d := startDemonstration(t, port, "-mode="+mode, "-once")
			d.wantEnd(t, 0)
			// In this order; in hybrid mode the second lock changes hands while Redis is away.
			story := append([]string{"currently locked by an unapplied plan from pull #1", "on #2: This pull request is next in queue",
				"on #3: This pull request is 2nd in queue, behind #2", "#1 is merged", "on #2: Plan: 1 to add", "network/default/, by pull request #2"}, texts...)
			rest := d.text()
			for _, text := range append(story, "That was everything") {
				_, after, ok := strings.Cut(rest, text)
				if !ok {
					t.Fatalf("the demonstration does not say %q after what comes before, but:\n%s", text, d.text())
				}
				rest = after
			}
			if !strings.Contains(d.text(), "Locked: acme/infra/network/default/, by pull request #3") {
				t.Errorf("#3 did not get the lock:\n%s", d.text())
			}
		})
	}
}

// TestDemonstration is `make run MODE=hybrid` as a person uses it: the commands that it prints work, Redis is killed and brought
// back, and Ctrl-C stops everything.
func TestDemonstration(t *testing.T) {
	t.Parallel()
	port, err := freeport.Take()
	if err != nil {
		t.Fatal(err)
	}
	d := startDemonstration(t, port, "-mode=hybrid")
	d.wait(t, "Ctrl-C stops everything", 1)
	d.wait(t, "Redis decides", 1)

	commands := regexp.MustCompile(`(?m)^  curl (\S+)(?: -d (?:body='([^']+)' -d user=(\w+)|('')))?`).FindAllStringSubmatch(d.text(), -1)
	if len(commands) != 5 {
		t.Fatalf("the demonstration prints %d commands, not 5:\n%s", len(commands), d.text())
	}
	for _, command := range commands {
		form := url.Values{}
		if command[2] != "" {
			form = url.Values{"body": {command[2]}, "user": {command[3]}}
		}
		curl(t, command[1], form, command[2] != "" || command[4] != "")
	}
	for _, link := range regexp.MustCompile(`(?m)^  (http://\S+) `).FindAllStringSubmatch(d.text(), -1) {
		curl(t, link[1], nil, false)
	}

	if _, err := io.WriteString(d.stdin, "k\n"); err != nil {
		t.Fatal(err)
	}
	d.wait(t, "Redis is not asked (breaker open): the local store decides", 1)
	if _, err := io.WriteString(d.stdin, "k\n"); err != nil {
		t.Fatal(err)
	}
	d.wait(t, "Redis is not running", 1)
	if _, err := io.WriteString(d.stdin, "r\n"); err != nil {
		t.Fatal(err)
	}
	d.wait(t, "Atlantis tries it again ", 1)
	d.wait(t, "Redis decides", 2)
	if err := d.process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.wantEnd(t, 0)
}

// curl does what the command line does, with a form or without, and fails unless the server takes it.
func curl(t *testing.T, address string, form url.Values, isPost bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	method := http.MethodGet
	if isPost {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if isPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(response.Body)
		t.Errorf("curl %s: %s: %s", address, response.Status, answer)
	}
}

// TestDemonstrationPortTaken: the error names the way out.
func TestDemonstrationPortTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	port := listener.Addr().(*net.TCPAddr).Port
	d := startDemonstration(t, port)
	d.wantEnd(t, 1)
	for _, text := range []string{"port " + strconv.Itoa(port), "taken", "make run PORT="} {
		if !strings.Contains(d.text(), text) {
			t.Errorf("the error does not say %q: %s", text, d.text())
		}
	}
}
