// Package control lets programs of this machine change the mode, the settings and the store of a server that runs, by a socket in the folder
// of locking.data_dir. The library's own socket there, by which they ask for locks, goes and comes with the stores; this one stays.
//
// Who needs it: a server of your own whose mode an operator is to change by `atlock mode`. It says what is done; this listens and asks it.
//
// Its lines are those of the library's socket (src/socket/protocol.rs), so that the command atlock speaks with both.
//
// Invariants:
//   - Nobody but the server's user and root is answered, whatever the rights of the folder are: the system says who connected.
//   - A program that hangs, or sends what is no request, costs its own connection. At most eight are answered at once.
//   - No start fails because of the socket: where there can be none, the caller of [Listen] is told why.
//
// Faults that it survives: kill -9 of the server, whose socket the next one replaces; a client that is stopped in the middle of a line. Where
// another server listens, nothing is replaced.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/capi"
)

// File is the socket's name in the folder.
const File = "atlock-server.sock"

const (
	protocol       = 1
	longestPath    = 107 // of a unix socket on Linux, bytes
	longestRequest = 64 << 10
	mostAtOnce     = 8
	requestTime    = 5 * time.Second
	answerTime     = 10 * time.Second
)

// Peer is who asked, in the words of the audit trail.
type Peer struct {
	Socket struct {
		Pid int32  `json:"pid"` // 0 where it is not to be seen from here
		Uid uint32 `json:"uid"`
	} `json:"socket"`
}

// Request is what was asked for: an operation, and its input as JSON; nil without one.
type Request struct {
	Op    string          `json:"op"`
	Input json.RawMessage `json:"in"`
	By    Peer            `json:"-"`
}

// Listener answers programs until it is closed.
type Listener struct {
	path     string
	socket   *net.UnixListener
	answer   func(Request) (any, error)
	refused  func(by Peer)
	turns    chan struct{}
	handlers sync.WaitGroup
}

// Listen listens in a folder, which is made if it is missing. Each request is answered on a goroutine of its own. refused, unless it is nil, is
// told of each user who is not answered.
func Listen(folder string, answer func(Request) (any, error), refused func(by Peer)) (*Listener, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, File)
	// The socket is made under another name, so that nobody finds it before it is its owner's alone.
	making := fmt.Sprintf("%s.%d", path, os.Getpid())
	if len(making) > longestPath {
		return nil, fmt.Errorf("the path %s has %d bytes, and that of a unix socket at most %d: give locking.data_dir a shorter path", making, len(making), longestPath)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := refuseOthers(path); err != nil {
		return nil, err
	}
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: making, Net: "unix"})
	if err != nil {
		return nil, err
	}
	socket.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(making, 0o600), os.Rename(making, path)); err != nil {
		return nil, errors.Join(err, socket.Close(), os.Remove(making))
	}
	l := &Listener{path: path, socket: socket, answer: answer, refused: refused, turns: make(chan struct{}, mostAtOnce)}
	l.handlers.Go(l.accept)
	return l, nil
}

// refuseOthers is an error if another server listens at the path, or something there is no socket.
func refuseOthers(path string) error {
	switch found, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case found.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is no socket: move that file away and restart", path)
	}
	if other, err := net.DialTimeout("unix", path, requestTime); err == nil {
		return errors.Join(fmt.Errorf("another server listens at %s: give each server a locking.data_dir of its own", path), other.Close())
	}
	return nil
}

// Close ends it. Who is being answered still is.
func (l *Listener) Close() error {
	err := errors.Join(os.Remove(l.path), l.socket.Close())
	l.handlers.Wait()
	return err
}

func (l *Listener) accept() {
	for {
		connection, err := l.socket.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptor was free
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case l.turns <- struct{}{}:
			l.handlers.Go(func() {
				defer func() { <-l.turns }()
				l.serve(connection)
			})
		default:
			send(connection, failed(&client.Error{Code: capi.StoreBusy, Message: "the server answers so many programs at once, and no more: try again"}))
			connection.Close()
		}
	}
}

// serve answers one request.
func (l *Listener) serve(connection *net.UnixConn) {
	defer connection.Close()
	peer, err := peerOf(connection)
	if err != nil {
		return
	}
	if uid := peer.Socket.Uid; uid != 0 && int(uid) != os.Geteuid() {
		if l.refused != nil {
			l.refused(peer)
		}
		send(connection, failed(&client.Error{
			Code: capi.Permission, Message: "this user may not change the server: run the command as the user that the server runs as (sudo -u …)",
		}))
		return
	}
	send(connection, map[string]any{"protocol": protocol, "version": client.Version(), "pid": os.Getpid()})
	if err := connection.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return
	}
	lines := bufio.NewScanner(connection)
	lines.Buffer(nil, longestRequest)
	if !lines.Scan() {
		return
	}
	request := Request{By: peer}
	if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
		send(connection, failed(&client.Error{Code: capi.InvalidJSON, Message: `a request is a line like {"op":"mode"}`}))
		return
	}
	answer, err := l.answer(request)
	if err != nil {
		send(connection, failed(err))
		return
	}
	send(connection, map[string]any{"ok": answer})
}

// failed is an error as a line. What has no code of the library is a wrong setting, or a fault of this server.
func failed(err error) any {
	code := capi.Internal
	if !errors.As(err, &code) {
		code = capi.Internal
	}
	return map[string]any{"error": map[string]any{"code": int(code), "name": code.Name(), "message": err.Error()}}
}

// send writes a line. Who does not read it misses it.
func send(connection *net.UnixConn, line any) {
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	if connection.SetWriteDeadline(time.Now().Add(answerTime)) == nil {
		_, _ = connection.Write(append(text, '\n'))
	}
}

// peerOf is who is at the other end, as the system saw it.
func peerOf(connection *net.UnixConn) (peer Peer, err error) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return peer, err
	}
	var found *syscall.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		found, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return peer, err
	}
	peer.Socket.Pid, peer.Socket.Uid = found.Pid, found.Uid
	return peer, nil
}
