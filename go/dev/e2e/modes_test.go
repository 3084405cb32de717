//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
)

// mode is a way to run a server.
type mode struct {
	name  string
	stock bool // the unmodified program of Atlantis
	redis bool // it needs a Redis
	// redisDirectly marks those in which Atlantis's own Redis code answers, which looks and takes in two steps: docs/defects.md.
	redisDirectly bool
	// settings returns flags and, for --locking-config, a file's content; empty without one.
	settings func(w *world) (flags []string, file string)
	env      map[string]string
	// boltDirectly marks those in which Atlantis's own BoltDB code answers.
	boltDirectly bool
	// older: the program of an older release, which ATLOCK_E2E_OLDER names.
	older bool
	// answers is the mode that a linked server must say it is in.
	answers string
}

var (
	stockBolt  = mode{name: "stock", stock: true, boltDirectly: true, settings: noSettings}
	stockRedis = mode{name: "stock-redis", stock: true, redis: true, redisDirectly: true, settings: stockRedisFlags}
	unset      = mode{name: "linked-unset", boltDirectly: true, settings: noSettings}
	unsetRedis = mode{name: "linked-unset-redis", redis: true, redisDirectly: true, settings: stockRedisFlags}
	strictBolt = mode{name: "strict-boltdb", boltDirectly: true, answers: "strict", settings: file("locking: {backend: boltdb}\n")}
	strictSled = mode{name: "strict-sled", answers: "strict", settings: func(w *world) ([]string, string) {
		return nil, fmt.Sprintf("locking: {backend: sled, data_dir: %q}\n", w.lockFolder())
	}}
	hybridBolt = mode{name: "hybrid-boltdb", answers: "hybrid", redis: true, settings: enhanced("boltdb", "hybrid")}
	hybridSled = mode{name: "hybrid-sled", answers: "hybrid", redis: true, settings: enhanced("sled", "hybrid")}
	native     = mode{name: "native", answers: "native", redis: true, settings: enhanced("boltdb", "native")}
)

// allModes are those in which every scenario runs; the stock ones are the reference.
var allModes = []mode{
	stockBolt, stockRedis, unset, unsetRedis, strictBolt, strictSled, hybridBolt, hybridSled, native, queueSled, queueNative, queueHybrid,
}

func noSettings(*world) ([]string, string) { return nil, "" }

func file(content string) func(*world) ([]string, string) {
	return func(*world) ([]string, string) { return nil, content }
}

func stockRedisFlags(w *world) ([]string, string) {
	host, port, _ := net.SplitHostPort(w.redis.Addr)
	return []string{"--locking-db-type=redis", "--redis-host=" + host, "--redis-port=" + port}, ""
}

func enhanced(backend, compatibility string) func(*world) ([]string, string) {
	return func(w *world) ([]string, string) {
		return nil, fmt.Sprintf(`locking:
  backend: %s
  data_dir: %q
  enhanced:
    enabled: true
    compatibility_mode: %s
    redis: {address: %q}
`, backend, w.lockFolder(), compatibility, w.redis.Addr)
	}
}

// enhancedByFlags leaves Redis's address, the legacy store and its folder to Atlantis's own flags.
func enhancedByFlags(compatibility string) func(*world) ([]string, string) {
	return func(w *world) ([]string, string) {
		flags, _ := stockRedisFlags(w)
		return flags, fmt.Sprintf("locking: {enhanced: {enabled: true, compatibility_mode: %s}}\n", compatibility)
	}
}

// wantMode fails unless the server says that it is in the mode: a setting that is wrong must not turn a test of hybrid mode into
// one of strict mode.
func (m mode) wantMode(t *testing.T, server *atlantis.Server) {
	t.Helper()
	content, err := os.ReadFile(server.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	_, said, _ := cutLast(string(content), "Utilizing ")
	said, _, _ = strings.Cut(said, `"`)
	if m.answers != "" && !strings.HasSuffix(said, ", mode "+m.answers) || m.answers == "" && strings.HasPrefix(said, "atlock") {
		t.Fatalf("the server should be in mode %q, but says: Utilizing %s", m.answers, said)
	}
}

// cutLast cuts a text around the last occurrence.
func cutLast(text, separator string) (before, after string, found bool) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(separator):], true
}

// lockFolder is the embedded store's folder, the same in every mode.
func (w *world) lockFolder() string { return filepath.Join(w.folder, "locks") }

// arguments are the server's flags; it writes the file that they name.
func (m mode) arguments(t *testing.T, w *world) []string {
	t.Helper()
	flags, content := m.settings(w)
	if content == "" {
		return flags
	}
	path := filepath.Join(w.folder, m.name+".yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return append(flags, "--locking-config="+path)
}

// binary is the program: ATLOCK_E2E_SERVER and ATLOCK_E2E_STOCK, or what the Makefile builds. A missing one is an error, never a
// skip: a test that silently did not run proves nothing.
func (m mode) binary(t *testing.T) string {
	t.Helper()
	variable, path, target := "ATLOCK_E2E_SERVER", filepath.Join("..", "..", "..", "build", "atlantis"), "make atlantis"
	if m.stock {
		variable, path, target = "ATLOCK_E2E_STOCK", filepath.Join("..", "..", "..", "build", "atlantis-stock"), "make atlantis-stock"
	}
	if m.older {
		variable, path, target = "ATLOCK_E2E_OLDER", "", "make atlantis ATLANTIS_VERSION=… and name it there"
	}
	if set := os.Getenv(variable); set != "" {
		path = set
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(absolute); err != nil {
		t.Fatalf("the server's program is missing: build it by `%s`, or name another in %s: %v", target, variable, err)
	}
	return absolute
}
