package control_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/control"
)

func listen(t *testing.T, folder string) *control.Listener {
	t.Helper()
	listener, err := control.Listen(folder, func(request control.Request) (any, error) {
		if request.Op == "fail" {
			return nil, fmt.Errorf("it failed: %w", client.ErrStoreBusy)
		}
		return map[string]any{"op": request.Op, "in": request.Input, "uid": request.By.Socket.Uid}, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// ask is what a program reads: the greeting, and the answer.
func ask(t *testing.T, folder, line string) (greeting, answer string) {
	t.Helper()
	connection, err := net.Dial("unix", filepath.Join(folder, control.File))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := connection.Write([]byte(line)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(connection)
	lines.Scan()
	greeting = lines.Text()
	lines.Scan()
	return greeting, lines.Text()
}

func TestProgramsAreAnswered(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	listener := listen(t, folder)
	greeting, answer := ask(t, folder, `{"op":"mode","in":[1]}`+"\n")
	if !strings.Contains(greeting, `"protocol":1`) || answer != fmt.Sprintf(`{"ok":{"in":[1],"op":"mode","uid":%d}}`, os.Getuid()) {
		t.Errorf("%s, %s", greeting, answer)
	}
	if _, answer = ask(t, folder, "nonsense\n"); !strings.Contains(answer, `"name":"invalid_json"`) {
		t.Errorf("%s", answer)
	}
	_, answer = ask(t, folder, `{"op":"fail"}`+"\n")
	var failed struct {
		Error struct {
			Code    int
			Name    string
			Message string
		}
	}
	if err := json.Unmarshal([]byte(answer), &failed); err != nil || failed.Error.Name != "store_busy" || !strings.HasPrefix(failed.Error.Message, "it failed") {
		t.Errorf("%s, %v", answer, err)
	}
	found, err := os.Stat(filepath.Join(folder, control.File))
	if err != nil || found.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := control.Listen(folder, nil, nil); err == nil || !strings.Contains(err.Error(), "another server listens") {
		t.Errorf("two servers: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(folder); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestWhatAKilledServerLeftIsReplaced(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, control.File)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	listener := listen(t, folder)
	ask(t, folder, `{"op":"mode"}`+"\n")
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(folder, nil, nil); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if _, err := control.Listen(filepath.Join(folder, strings.Repeat("x", 100)), nil, nil); err == nil || !strings.Contains(err.Error(), "shorter path") {
		t.Errorf("a long path: %v", err)
	}
}

// Another user of the machine is told so, and nothing else, even where the rights of the folder and of the socket let them in.
func TestAnotherUserIsRefused(t *testing.T) {
	folder := t.TempDir()
	refused := make(chan control.Peer, 1)
	listener, err := control.Listen(folder, nil, func(by control.Peer) { refused <- by })
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = errors.Join(os.Chmod(filepath.Dir(folder), 0o755), os.Chmod(folder, 0o755), os.Chmod(filepath.Join(folder, control.File), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string)
	go func() {
		// The thread keeps the other user, and ends with this goroutine.
		runtime.LockOSThread()
		const keep, nobody = ^uintptr(0), 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, nobody, keep); errno != 0 {
			answers <- "this test asks as another user, run it as root: " + errno.Error()
			return
		}
		connection, err := net.Dial("unix", filepath.Join(folder, control.File))
		if err != nil {
			answers <- err.Error()
			return
		}
		defer connection.Close()
		_, _ = connection.Write([]byte(`{"op":"mode"}` + "\n"))
		answer, err := io.ReadAll(connection)
		answers <- string(answer) + fmt.Sprint(err)
	}()
	if answer := <-answers; !strings.HasPrefix(answer, `{"error":{"code":15,`) || !strings.Contains(answer, `"name":"permission"`) || strings.Contains(answer, "pid") {
		t.Error(answer)
	}
	if by := <-refused; by.Socket.Uid != 65534 {
		t.Errorf("%+v", by)
	}
}
