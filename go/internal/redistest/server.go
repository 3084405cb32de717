// Package redistest runs private redis-server processes for tests: single
// servers (plain, with a password, with an ACL, with TLS, with persistence) and
// small clusters.
//
// Every server listens on a free port of 127.0.0.1, keeps its files in the
// test's temporary folder, and is stopped by its process id when the test ends.
// It also dies with the test binary, however that ends. A missing redis-server
// is a failure, never a skip: a test that silently did not run proves nothing.
package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/internal/child"
	"github.com/atlock/atlock/go/internal/freeport"
)

const (
	host = "127.0.0.1"
	// startLimit is generous: a loaded two-core machine needs well under one second.
	startLimit = 20 * time.Second
	pollEvery  = 10 * time.Millisecond
	// portAttempts bounds the retries after another process took a port
	// between our choosing it and redis-server binding it.
	portAttempts = 5
)

// Options says how a server differs from a plain one: no password, no
// persistence, no TLS.
type Options struct {
	// Password is asked of the user "default".
	Password string
	// ACL holds the lines of an ACL file, such as
	// "user atlantis on >secret ~* &* +@all". Empty means no ACL file.
	ACL []string
	// TLS makes the server speak nothing but TLS, with certificates made for
	// this server; see Server.TLSConfig.
	TLS bool
	// RequireClientCertificate refuses TLS clients without a certificate.
	RequireClientCertificate bool
	// AppendOnly makes every acknowledged write survive Kill and Restart.
	AppendOnly bool
	// Args go to redis-server as they are.
	Args []string
}

// Server is one running redis-server.
type Server struct {
	// Port and Addr are where it listens. They stay the same over Restart.
	Port int
	Addr string
	// Dir holds the server's files: data, log, certificates.
	Dir string

	options Options
	certs   *certificates
	process *process
}

// Start runs a server until the test ends.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	requireExecutable(t, "redis-server")

	s := &Server{Dir: t.TempDir(), options: options}
	s.writeFiles(t)
	t.Cleanup(func() { s.stop(syscall.SIGKILL) })

	for attempt := 1; ; attempt++ {
		s.Port = freePort(t)
		s.Addr = net.JoinHostPort(host, strconv.Itoa(s.Port))
		err := s.launch()
		if err == nil {
			return s
		}
		if attempt == portAttempts || !strings.Contains(err.Error(), "Address already in use") {
			t.Fatalf("start redis-server: %v", err)
		}
	}
}

// Client returns a client of the server as its default user, closed when the
// test ends. A server whose default user is off in its ACL needs a client of
// the test's own making.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	client := redis.NewClient(s.clientOptions())
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TLSConfig returns what a client needs: the server's certificate authority and
// a client certificate that it signed. It is nil for a server without TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.certs == nil {
		return nil
	}
	return s.certs.clientConfig()
}

// CertificateFiles returns the paths of the certificate authority, the client
// certificate and its key, for programs that read files. They are empty for a
// server without TLS.
func (s *Server) CertificateFiles() (authority, certificate, key string) {
	if s.certs == nil {
		return "", "", ""
	}
	return s.certs.path(authorityFile), s.certs.path(clientFile), s.certs.path(clientKeyFile)
}

// Kill ends the server as a crash would: at once, without saving.
func (s *Server) Kill() { s.stop(syscall.SIGKILL) }

// Shutdown ends the server in good order.
func (s *Server) Shutdown() { s.stop(syscall.SIGTERM) }

// Pause stops the process without closing its connections: it accepts requests
// and never answers.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Resume undoes Pause.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

// Restart runs the server again, on the same port and files, after Kill or Shutdown.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if s.process != nil {
		t.Fatal("restart redis-server: it is still running")
	}
	if err := s.launch(); err != nil {
		t.Fatalf("restart redis-server: %v", err)
	}
}

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if s.process == nil {
		t.Fatalf("signal %v: redis-server is not running", signal)
	}
	if err := s.process.Signal(signal); err != nil {
		t.Fatalf("signal %v: %v", signal, err)
	}
}

func (s *Server) stop(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	s.process.Stop(signal)
	s.process = nil
}

// writeFiles puts what the command line refers to into the server's folder.
func (s *Server) writeFiles(t testing.TB) {
	t.Helper()
	if len(s.options.ACL) > 0 {
		content := strings.Join(s.options.ACL, "\n") + "\n"
		if err := os.WriteFile(s.aclPath(), []byte(content), 0o600); err != nil {
			t.Fatalf("write ACL file: %v", err)
		}
	}
	if s.options.TLS {
		certs, err := newCertificates(s.Dir)
		if err != nil {
			t.Fatalf("make certificates: %v", err)
		}
		s.certs = certs
	}
}

func (s *Server) aclPath() string { return filepath.Join(s.Dir, "users.acl") }

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	p, err := startProcess("redis-server", s.arguments()...)
	if err != nil {
		return err
	}
	if err := s.waitReady(p); err != nil {
		p.Stop(syscall.SIGKILL)
		return fmt.Errorf("%w; its output: %s", err, p.output())
	}
	s.process = p
	return nil
}

func (s *Server) arguments() []string {
	port := strconv.Itoa(s.Port)
	args := []string{"--bind", host, "--dir", s.Dir, "--save", ""}
	if s.options.TLS {
		args = append(args, "--port", "0", "--tls-port", port)
		args = append(args, s.certs.serverArguments(s.options.RequireClientCertificate)...)
	} else {
		args = append(args, "--port", port)
	}
	if s.options.Password != "" {
		args = append(args, "--requirepass", s.options.Password)
	}
	if len(s.options.ACL) > 0 {
		args = append(args, "--aclfile", s.aclPath())
	}
	if s.options.AppendOnly {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	} else {
		args = append(args, "--appendonly", "no")
	}
	return append(args, s.options.Args...)
}

// waitReady returns once the server answers. An answer that refuses us (wrong
// user, no permission) is an answer; that data is still loading is not.
func (s *Server) waitReady(p *process) error {
	client := redis.NewClient(s.clientOptions())
	defer func() { _ = client.Close() }()

	deadline := time.Now().Add(startLimit)
	for {
		err := client.Ping(context.Background()).Err()
		var answered redis.Error
		if err == nil || (errors.As(err, &answered) && !strings.HasPrefix(err.Error(), "LOADING")) {
			return nil
		}
		if p.Exited() {
			return fmt.Errorf("redis-server ended at once: %w", err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer within %v: %w", startLimit, err)
		}
		time.Sleep(pollEvery)
	}
}

func (s *Server) clientOptions() *redis.Options {
	return &redis.Options{
		Addr:       s.Addr,
		Password:   s.options.Password,
		TLSConfig:  s.TLSConfig(),
		MaxRetries: -1,
	}
}

// freePort finds a port that stays free while the server is stopped.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Take()
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	return port
}

func requireExecutable(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is needed for this test and not on PATH: install Redis 7 (Debian: apt-get install redis-server): %v", name, err)
	}
}

// process is a child with its output kept.
type process struct {
	*child.Process
	out bytes.Buffer
}

func startProcess(name string, args ...string) (*process, error) {
	p := &process{}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	var err error
	p.Process, err = child.Start(cmd)
	return p, err
}

// output returns what the process printed. It may be called only after its end.
func (p *process) output() string { return strings.TrimSpace(p.out.String()) }
