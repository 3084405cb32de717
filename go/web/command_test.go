package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/runatlantis/atlantis/server/controllers"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"
	"github.com/runatlantis/atlantis/server/logging"

	"github.com/atlock/atlock/go/web"
)

// atlockCommand runs `atlock`, which `make lib` builds, and returns what it printed, what it said, and its exit status.
func atlockCommand(t *testing.T, env []string, args ...string) (string, string, int) {
	t.Helper()
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join("..", "..", "target")
	}
	path := filepath.Join(target, "release", "atlock")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the command line is missing: `make lib` builds it: %v", err)
	}
	run := exec.CommandContext(t.Context(), path, args...)
	run.Env = env
	var said strings.Builder
	run.Stderr = &said
	printed, err := run.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(printed), said.String(), run.ProcessState.ExitCode()
}

// linkedServer has the handlers, and Atlantis's own list of locks.
func linkedServer(t *testing.T, database database, secret string) http.Handler {
	t.Helper()
	router := mux.NewRouter()
	if err := web.Register(t.Context(), router, database, web.Options{APISecret: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	api := &controllers.APIController{Locker: locking.NewClient(database), Logger: logging.NewNoopLogger(t)}
	router.HandleFunc("/api/locks", api.ListLocks).Methods(http.MethodGet)
	return router
}

func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	served := httptest.NewServer(handler)
	t.Cleanup(served.Close)
	return served
}

// From another machine the command tells what the server's API offers, and says where the rest is done.
func TestTheCommandAsksAServer(t *testing.T) {
	database := openQueue(t)
	lock := newLock("acme/infra", "network", 7)
	lock.User.Username = "ada\x1b[2J\nforged"
	takeLock(t, database, lock)
	waitAs(t, database, "acme/infra", "network", models.PullRequest{Num: 8, URL: "https://git.example.com/8"})
	served := serve(t, linkedServer(t, database, apiSecret))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(apiSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := "acme/infra/network/default/"
	for _, c := range []struct {
		args    []string
		status  int
		printed string
		said    string
	}{
		{[]string{"status"}, 0, "state     healthy: Locks are granted\nmode      strict\nlocal     answered in ", ""},
		{[]string{"status", "--check"}, 0, "note      the server tells more to who gives its API token", ""},
		{[]string{"--token-file", token, "status"}, 0, "state     healthy: The lock store decides", ""},
		{[]string{"--token-file", token, "status", "--check"}, 0, "queue     for *", ""},
		{[]string{"list"}, 0, key + "  #7", ""},
		{[]string{"list", "--json"}, 0, `"Path":"network"`, ""},
		{[]string{"get", key}, 0, "pull   #7", ""},
		{[]string{"--token-file", token, "get", key}, 0, "token  ", ""},
		{[]string{"get", "acme/infra/other/default/"}, 3, "no lock", ""},
		{[]string{"queue"}, 1, "", "this is told to who logs in"},
		{[]string{"explain", key}, 1, "", "this is told to who logs in"},
		{[]string{"freezes"}, 1, "", "this is told to who logs in"},
		{[]string{"--token-file", token, "queue"}, 0, "#8", ""},
		{[]string{"--token-file", token, "queue", "acme/other"}, 0, "nobody waits", ""},
		{[]string{"--token-file", token, "explain", key}, 0, "holder    pull #7", ""},
		{[]string{"--token-file", token, "explain", "acme/infra", "8"}, 0, "waits     pull #8", ""},
		{[]string{"check", key, "--pull", "7"}, 0, "pull #7 holds", ""},
		{[]string{"check", key, "--pull", "8"}, 1, "", "does not hold"},
		{[]string{"--token-file", token, "check", key, "--pull", "7"}, 0, "pull #7 holds", ""},
		{[]string{"--token-file", token, "check", key, "--pull", "7", "--token", "1"}, 1, "", "by another grant"},
		{[]string{"--token-file", token, "check", key, "--pull", "8"}, 1, "", "pull #7 has it"},
		{[]string{"metrics"}, 0, "atlock_queue_tickets", ""},
		{[]string{"--token-file", token, "freezes"}, 0, "no freezes", ""},
		{[]string{"--token-file", token, "deadlocks"}, 0, "no circles", ""},
		{[]string{"unlock", key}, 1, "", served.URL + "/locking"},
		{[]string{"unlock-pull", "acme/infra", "7"}, 1, "", "releases no lock by its API"},
		{[]string{"doctor"}, 1, "", "on the server's machine"},
		{[]string{"top"}, 1, "", "top needs a terminal"},
		{[]string{"freeze", "acme/*", "--reason", "r", "--owner", "o", "--open-ended"}, 1, "", "--token-file"},
		{[]string{"--token-file", token, "freeze", "acme/*", "--reason", "r", "--owner", "o", "--open-ended"}, 0, "acme/*", ""},
		{[]string{"--token-file", token, "leave", "acme/infra", "8"}, 0, "pull #8 waits for 1 lock no more", ""},
		{[]string{"--token-file", token, "leave", "acme/infra", "8"}, 3, "waits for no such lock", ""},
	} {
		printed, said, status := atlockCommand(t, nil, append([]string{"--server", served.URL + "/"}, c.args...)...)
		if status != c.status || !strings.Contains(printed, c.printed) || !strings.Contains(said, c.said) {
			t.Errorf("%q: %d\n%s%s", c.args, status, printed, said)
		}
		if strings.ContainsAny(printed, "\x1b\r") || strings.Contains(printed, "\nforged") || strings.Contains(printed+said, apiSecret) {
			t.Errorf("%q prints what others wrote as it is, or the secret: %q", c.args, printed)
		}
	}
	printed, said, status := atlockCommand(t, []string{"ATLOCK_API_TOKEN=wrong"}, "--server", served.URL, "leave", "acme/infra", "8")
	if status != 1 || !strings.Contains(said, "X-Atlantis-Token") {
		t.Errorf("a wrong token: %d\n%s%s", status, printed, said)
	}
}

// What the command was told to send to one server goes to no other, and over no line on which others can read it.
func TestTheCommandKeepsItsToken(t *testing.T) {
	var asked atomic.Int32
	other := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	redirecting := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/locks/") && r.Header.Get("X-Atlantis-Token") != "" {
			t.Errorf("%s knows no token, and got one", r.URL.Path)
		}
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	env := []string{"ATLOCK_API_TOKEN=" + apiSecret}
	for _, c := range []struct {
		server, said string
		args         []string
	}{
		{redirecting.URL, "redirects to " + other.URL, []string{"status"}},
		{redirecting.URL, "redirects to " + other.URL, []string{"leave", "acme/infra", "8"}},
		{redirecting.URL, "redirects to " + other.URL, []string{"list"}},
		{"http://192.0.2.1", "others on the way can read it", []string{"leave", "acme/infra", "8"}},
		{"https://user:pass@example.com", "has a user or a password", []string{"status"}},
		{"example.com", "give https://HOST", []string{"status"}},
		{"ftp://example.com", "is no URL", []string{"status"}},
	} {
		if printed, said, status := atlockCommand(t, env, append([]string{"--server", c.server}, c.args...)...); status != 1 ||
			!strings.Contains(said, c.said) || strings.Contains(printed+said, apiSecret) || strings.Contains(said, "user:pass") {
			t.Errorf("%+v: %d\n%s%s", c, status, printed, said)
		}
	}
	if asked.Load() > 0 {
		t.Errorf("the other server was asked %d times", asked.Load())
	}
}

// A server that is none, that answers without end, or with a mistake, is told as such; one that is unhealthy is an answer.
func TestTheCommandJudgesAnswers(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for part := make([]byte, 1<<20); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		handler http.HandlerFunc
		args    []string
		status  int
		said    string
	}{
		{answer(200, "hello"), []string{"status"}, 1, "the server's answer cannot be read"},
		{answer(404, "<html>"), []string{"status"}, 1, "is not the address of an Atlantis server with atlock"},
		{answer(401, ""), []string{"metrics"}, 1, "a user and a password"},
		{answer(503, `{"error":"closed\u001b[2J"}`), []string{"list"}, 1, "closed"},
		{answer(503, `{"overall":false,"circuit_state":"disabled"}`), []string{"status", "--check"}, 5, ""},
		{endless, []string{"list"}, 1, "limit"},
	} {
		printed, said, status := atlockCommand(t, nil, append([]string{"--server", serve(t, c.handler).URL}, c.args...)...)
		if status != c.status || !strings.Contains(said, c.said) || strings.Contains(said, "\x1b") {
			t.Errorf("%q: %d\n%s%s", c.args, status, printed, said)
		}
	}
	served := serve(t, answer(200, ""))
	served.Close()
	if _, said, status := atlockCommand(t, nil, "--server", served.URL, "--json", "list"); status != 1 || !strings.Contains(said, `"code":"unreachable"`) {
		t.Errorf("nobody listens: %d, %s", status, said)
	}
}

// A server's certificate is verified by whom the system trusts.
func TestTheCommandVerifiesCertificates(t *testing.T) {
	authority, certificate := certificates(t)
	served := httptest.NewUnstartedServer(linkedServer(t, openSled(t), ""))
	served.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	served.StartTLS()
	t.Cleanup(served.Close)
	trusting := []string{"SSL_CERT_FILE=" + authority}
	if printed, said, status := atlockCommand(t, trusting, "--server", served.URL, "list"); status != 0 || !strings.Contains(printed, "no locks") {
		t.Errorf("a trusted server: %d\n%s%s", status, printed, said)
	}
	other, _ := certificates(t)
	for _, distrusting := range []string{"SSL_CERT_FILE=" + other, "SSL_CERT_DIR=" + t.TempDir()} {
		printed, said, status := atlockCommand(t, []string{distrusting}, "--server", served.URL, "--json", "list")
		var told struct{ Error struct{ Code string } }
		if err := json.Unmarshal([]byte(said), &told); err != nil || status != 1 || told.Error.Code != "tls" {
			t.Errorf("%s: %d\n%s%s", distrusting, status, printed, said)
		}
	}
}

// certificates makes an authority, whose file it returns, and a certificate for 127.0.0.1.
func certificates(t *testing.T) (string, tls.Certificate) {
	t.Helper()
	made := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "a test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, rootKey := made(root, root, nil)
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: "a server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, leafKey := made(leaf, root, rootKey)
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
}
