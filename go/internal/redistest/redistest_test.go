package redistest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/internal/redistest"
)

var ctx = context.Background()

func TestPasswordIsAsked(t *testing.T) {
	server := redistest.Start(t, redistest.Options{Password: "secret"})
	if err := server.Client(t).Ping(ctx).Err(); err != nil {
		t.Fatalf("with the password: %v", err)
	}
	stranger := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer func() { _ = stranger.Close() }()
	if err := stranger.Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Fatalf("without the password: got %v, want NOAUTH", err)
	}
}

func TestACLUsersAreKnown(t *testing.T) {
	server := redistest.Start(t, redistest.Options{ACL: []string{
		"user default off",
		"user reader on >secret ~pr/* +get +ping",
	}})
	reader := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "reader", Password: "secret"})
	defer func() { _ = reader.Close() }()
	if err := reader.Get(ctx, "pr/none").Err(); err != redis.Nil {
		t.Fatalf("allowed command: got %v, want nil reply", err)
	}
	if err := reader.Set(ctx, "pr/none", "x", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Fatalf("forbidden command: got %v, want NOPERM", err)
	}
}

func TestTLSClientCertificateIsRequired(t *testing.T) {
	server := redistest.Start(t, redistest.Options{TLS: true, RequireClientCertificate: true})
	if err := server.Client(t).Ping(ctx).Err(); err != nil {
		t.Fatalf("with a certificate: %v", err)
	}
	config := server.TLSConfig()
	config.Certificates = nil
	stranger := redis.NewClient(&redis.Options{Addr: server.Addr, TLSConfig: config})
	defer func() { _ = stranger.Close() }()
	if err := stranger.Ping(ctx).Err(); err == nil {
		t.Fatal("a client without a certificate was let in")
	}
	for _, file := range certificateFiles(server) {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("certificate file: %v", err)
		}
	}
	if _, err := tls.LoadX509KeyPair(certificateFiles(server)[1], certificateFiles(server)[2]); err != nil {
		t.Errorf("client certificate and key do not belong together: %v", err)
	}
}

func certificateFiles(server *redistest.Server) [3]string {
	authority, certificate, key := server.CertificateFiles()
	return [3]string{authority, certificate, key}
}

// Without persistence Kill loses everything, with it nothing: fault tests rely on both.
func TestKillAndRestart(t *testing.T) {
	for _, appendOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("appendonly=%v", appendOnly), func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{AppendOnly: appendOnly})
			client := server.Client(t)
			if err := client.Set(ctx, "key", "value", 0).Err(); err != nil {
				t.Fatal(err)
			}
			server.Kill()
			server.Restart(t)
			found, err := client.Exists(ctx, "key").Result()
			if err != nil {
				t.Fatal(err)
			}
			if (found == 1) != appendOnly {
				t.Errorf("key found: %v, want %v", found == 1, appendOnly)
			}
		})
	}
}

func TestPauseHangsAndResumeAnswers(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	client := server.Client(t)
	if err := client.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	server.Pause(t)
	limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := client.Ping(limited).Err(); err == nil {
		t.Error("a paused server answered")
	}
	server.Resume(t)
	if err := client.Ping(ctx).Err(); err != nil {
		t.Errorf("after resume: %v", err)
	}
}

func TestClusterServesAllSlots(t *testing.T) {
	cluster := redistest.StartCluster(t)
	client := cluster.Client(t)
	for i := range 50 {
		if err := client.Set(ctx, "key"+strconv.Itoa(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A test binary that is killed must not leave servers behind. The child starts
// a server, prints its process id and waits to be killed.
func TestServerDiesWithTheTestBinary(t *testing.T) {
	const role = "REDISTEST_CHILD"
	if os.Getenv(role) != "" {
		server := redistest.Start(t, redistest.Options{})
		info, err := server.Client(t).Info(ctx, "server").Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(info) {
			if pid, ok := strings.CutPrefix(strings.TrimSpace(line), "process_id:"); ok {
				fmt.Println(pid)
			}
		}
		select {}
	}

	child := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithTheTestBinary$")
	child.Env = append(os.Environ(), role+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, scanErr := fmt.Fscan(stdout, &pid)
	_ = child.Process.Kill()
	_ = child.Wait()
	if scanErr != nil {
		t.Fatalf("process id of the child's server: %v", scanErr)
	}

	deadline := time.Now().Add(5 * time.Second)
	for syscall.Kill(pid, 0) == nil {
		if time.Now().After(deadline) {
			t.Fatalf("redis-server %d outlived the test binary", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
