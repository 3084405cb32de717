//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/internal/redistest"
)

// Secrets that enter the linked server, each a text that nothing else has. Atlantis puts the Git host's token into the clone URL of each lock and
// pull status; the master key is given as digits.
const (
	redisPassword = "the-redis-password-5d1c"
	masterKey     = "c3a1f7094be25d8690aa17e4d2b8365f4e91c07a6db3f2185e0c97d4a1b6e8f3"
)

// secrets are the markers, by what they are.
func secrets() map[string][]byte {
	raw, _ := hex.DecodeString(masterKey)
	return map[string][]byte{
		"git token":       []byte(atlantis.Token),
		"webhook secret":  []byte(webhookSecret),
		"API secret":      []byte(atlantis.APIToken),
		"web password":    []byte(webPassword),
		"web login":       []byte(base64.StdEncoding.EncodeToString([]byte(webUser + ":" + webPassword))),
		"Redis password":  []byte(redisPassword),
		"master key":      []byte(masterKey),
		"raw master key":  raw,
		"master key, b64": []byte(base64.StdEncoding.EncodeToString(raw)),
	}
}

// mayBe is where a secret may be, and why.
type mayBe struct {
	place  string // what the place's name begins with, or has behind its *
	secret string
	why    string
}

// expected are all places in which a secret may be. An entry that nothing meets any more is a failure, too. The memory never has the master key, in
// no form: it is wiped once it has opened the data keys. What is in use cannot be wiped; the unit forbids dumps (LimitCORE=0; TestUnit).
var expected = []mayBe{
	{"file atlantis/data/repos/*.git/config", "git token", "Atlantis clones by that URL"},
	{"memory", "git token", "in use: Atlantis's settings, and values of locks"},
	{"memory", "webhook secret", "in use: Atlantis's settings"},
	{"memory", "API secret", "in use: Atlantis's settings"},
	{"memory", "web password", "in use: Atlantis's settings"},
	{"memory", "web login", "in use: requests that log in"},
	{"memory", "Redis password", "in use: each new connection logs in"},
}

// hunted is a world whose secrets are looked for.
type hunted struct {
	*world
	told map[string][]byte // what anybody was told, by where
	met  map[mayBe]bool
}

// secretMode is hybrid mode, or the mode of this name, with every place in which a secret can enter.
func secretMode(name string) mode {
	return mode{name: name + "-secrets", answers: name, redis: true, settings: func(w *world) ([]string, string) {
		content := fmt.Sprintf(
			"locking: {backend: sled, data_dir: %q, encryption: {key_file: %q}, audit: {file: %q, stdout: true}, enhanced: {enabled: true, "+
				"compatibility_mode: %s, redis: {address: %q, password_file: %q}}}\n",
			w.lockFolder(), filepath.Join(w.folder, "etc", "key"), w.auditFile(), name, w.redis.Addr, filepath.Join(w.folder, "etc", "password"))
		return []string{"--web-basic-auth=true", "--web-username=" + webUser, "--web-password=" + webPassword}, content
	}}
}

// TestNoSecretWhereNoneBelongs puts a marker into every place where a secret can enter the linked server, does real work: plans, refusals, an apply, a
// fallback, a recovery, wrong log-ins, a crash, changes of mode, a migration, and looks for each marker in all that is left and was told: files, keys
// in Redis, pages, answers of the API, metrics, errors, logs, comments, the audit trail, what commands print, and the memory of the running server,
// which a core dump would have. Where one is found it is expected, with a reason, or a failure.
func TestNoSecretWhereNoneBelongs(t *testing.T) {
	t.Parallel()
	w := newHost(t)
	w.redis = redistest.Start(t, redistest.Options{AppendOnly: true, Password: redisPassword})
	for name, text := range map[string]string{"key": masterKey, "password": redisPassword} {
		if err := os.MkdirAll(filepath.Join(w.folder, "etc"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.folder, "etc", name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := &hunted{world: w, told: map[string][]byte{}, met: map[mayBe]bool{}}
	w.start(t, secretMode("hybrid"))
	r := w.repository(t, "acme/infra")

	first, comment := r.open(t, "app", "network")
	wantText(t, comment, planned)
	_, comment = r.open(t, "app")
	wantText(t, comment, refusedBy(first))
	wantText(t, r.command(t, first, "atlantis apply -d network"), applied)
	h.lookEverywhere(t, r, "Redis decides")

	w.redis.Kill()
	second, comment := r.open(t, "database")
	wantText(t, comment, planned)
	h.lookEverywhere(t, r, "the local store decides")
	w.redis.Restart(t)
	h.waitForRedis(t, r.key("database"))
	h.lookEverywhere(t, r, "Redis decides again")
	h.lookIntoMemory(t)

	w.crash(t)
	h.search(t, r, "after a crash")
	h.run(t, "locking", "migrate", "--from", "config:"+h.configFile("hybrid"), "--to", "sled:"+filepath.Join(w.folder, "locks-moved"),
		"--work", filepath.Join(w.folder, "work"), "--execute", "--others-are-stopped")
	h.search(t, r, "after a migration")
	h.run(t, "locking", "rollback", filepath.Join(w.folder, "work", "manifest.json"), "--others-are-stopped")
	w.restart(t)
	r.wantHolders(t, map[string]int{"app": first, "network": first, "database": second})
	for _, other := range []string{"native", "strict", "hybrid"} {
		w.stop(t)
		w.start(t, secretMode(other))
		h.lookEverywhere(t, r, other)
	}
	for _, number := range []int{first, second} {
		r.merge(t, number)
	}
	r.eventuallyHolders(t, map[string]int{})
	w.stop(t)
	h.search(t, r, "at the end")
	for _, one := range expected {
		if !h.met[one] {
			t.Errorf("nothing is at %q of the %s any more: take it out", one.place, one.secret)
		}
	}
}

// crash ends the server by a signal of a fault, at which Go writes what every goroutine does.
func (w *world) crash(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(w.server.PID(), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.server.Done():
	case <-time.After(answerLimit):
		t.Fatal("the server goes on after SIGABRT")
	}
	w.server.Kill()
}

func (h *hunted) configFile(name string) string { return filepath.Join(h.folder, name+"-secrets.yaml") }

// waitForRedis waits until Redis has this lock.
func (h *hunted) waitForRedis(t *testing.T, key string) {
	t.Helper()
	client := h.redis.Client(t)
	for deadline := time.Now().Add(answerLimit); client.Exists(t.Context(), "pr/"+key).Val() == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Redis does not get %s", key)
		}
	}
}

// run runs a command of the server's program, and keeps what it prints.
func (h *hunted) run(t *testing.T, words ...string) {
	t.Helper()
	command := exec.Command(hybridSled.binary(t), append(words, "--config", h.configFile("hybrid"))...)
	command.Dir = h.serverFolder()
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", words, err, output)
	}
	h.told["command "+strings.Join(words[:2], " ")] = output
}

// lookEverywhere asks for each page and each answer as everybody, as who logged in, with a wrong password and with a wrong secret, and searches.
func (h *hunted) lookEverywhere(t *testing.T, r *repository, when string) {
	t.Helper()
	basic := func(password string) map[string]string {
		return map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(webUser+":"+password))}
	}
	id := url.QueryEscape(url.QueryEscape(r.key("app")))
	for as, header := range map[string]map[string]string{
		"everybody": nil, "carol": basic(webPassword), "wrong password": basic("wrong"),
		"api": {"X-Atlantis-Token": atlantis.APIToken}, "wrong secret": {"X-Atlantis-Token": "wrong"},
	} {
		for _, path := range []string{
			"/", "/locking", "/locking?filter=app", "/metrics", "/healthz", "/status", "/lock?id=" + id, "/lock?id=none", "/github-app/setup", "/no/such/page",
			"/api/locks", "/api/locks/health", "/api/locks/compatibility/status", "/api/locks/queue", "/api/locks/stats", "/api/locks/freezes",
			"/api/locks/deadlocks", "/api/locks/stale", "/api/locks/explain?id=" + url.QueryEscape(r.key("app")),
			"/api/locks/check?id=" + url.QueryEscape(r.key("app")) + "&pull=1", "/api/locks/check?id=x", "/api/locks/queue?repo=none",
		} {
			h.ask(t, as, http.MethodGet, path, header)
		}
		if as == "carol" {
			h.ask(t, as, http.MethodPost, "/apply/lock", header)
			h.ask(t, as, http.MethodDelete, "/apply/unlock", header)
		} else {
			h.ask(t, as, http.MethodPost, "/api/plan", header)
			h.ask(t, as, http.MethodPost, "/locking/release", header)
			h.ask(t, as, http.MethodPost, "/events", header)
		}
	}
	h.search(t, r, when)
}

// ask keeps the answer to a request, with its headers.
func (h *hunted) ask(t *testing.T, as, method, path string, header map[string]string) {
	t.Helper()
	code, body, err := h.server.Do(t.Context(), method, path, header)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	h.told[fmt.Sprintf("%s %s for %s", method, path, as)] = fmt.Appendf(nil, "%d %s", code, body)
}

// search looks for each secret in all that was told, in all files of the server, and in Redis.
func (h *hunted) search(t *testing.T, r *repository, when string) {
	t.Helper()
	for where, text := range h.told {
		h.look(t, when, "told by "+where, text)
	}
	for _, pull := range h.host.Pulls(r.name) {
		h.look(t, when, fmt.Sprintf("pull request #%d", pull.Number), fmt.Appendf(nil, "%+v", pull))
	}
	for name, folder := range map[string]string{"file": h.folder, "redis file": h.redis.Dir} {
		h.files(t, when, name, folder)
	}
	h.keys(t, when)
}

// files looks into each file of a folder, but for the operator's own and the Git host's.
func (h *hunted) files(t *testing.T, when, name, folder string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a folder that goes while it is looked at
		}
		at, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && name == "file" && (at == "etc" || at == "repositories") {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		if content, err := os.ReadFile(path); err == nil { // or it is gone
			h.look(t, when, name+" "+at, content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keys looks into each key in Redis, while it runs.
func (h *hunted) keys(t *testing.T, when string) {
	t.Helper()
	client := h.redis.Client(t)
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		return // Redis is away
	}
	for _, key := range keys {
		value, err := everything(t, client, key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		h.look(t, when, "redis key "+key, fmt.Append(nil, key, " ", value))
	}
}

// everything is all that is at a key.
func everything(t *testing.T, client *redis.Client, key string) (value any, err error) {
	t.Helper()
	kind, err := client.Type(t.Context(), key).Result()
	if err != nil {
		return nil, err
	}
	switch kind {
	case "none": // it went meanwhile
		return "", nil
	case "string":
		value, err = client.Get(t.Context(), key).Result()
	case "hash":
		value, err = client.HGetAll(t.Context(), key).Result()
	case "set":
		value, err = client.SMembers(t.Context(), key).Result()
	case "zset":
		value, err = client.ZRange(t.Context(), key, 0, -1).Result()
	default:
		err = fmt.Errorf("a key of type %q", kind)
	}
	if err == redis.Nil {
		return "", nil
	}
	return value, err
}

// look looks for each secret in what is at a place.
func (h *hunted) look(t *testing.T, when, place string, content []byte) {
	t.Helper()
	for secret, marker := range secrets() {
		at := bytes.Index(content, marker)
		if at < 0 {
			continue
		}
		is := func(one mayBe) bool {
			begin, end, _ := strings.Cut(one.place, "*")
			return one.secret == secret && strings.HasPrefix(place, begin) && strings.Contains(place, end)
		}
		if known := slices.IndexFunc(expected, is); known >= 0 {
			h.met[expected[known]] = true
			continue
		}
		t.Errorf("%s: the %s is in %s: %.160q", when, secret, place, content[max(0, at-60):])
	}
}

// lookIntoMemory looks into what a core dump of the running server would have: its writable memory that is no file's.
func (h *hunted) lookIntoMemory(t *testing.T) {
	t.Helper()
	pid := h.server.PID()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatalf("the server's memory may not be read by this user, who started it: %v", err)
	}
	defer memory.Close()
	looked := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if !strings.HasPrefix(rights, "rw-p") {
			continue
		}
		const piece = 16 << 20
		for at := from; at < to; at += piece {
			content := make([]byte, min(piece+1<<10, to-at)) // the next piece begins in this one
			read, _ := memory.ReadAt(content, int64(at))     // a guard page has nothing
			looked += read
			h.look(t, "in use", "memory", content[:read])
		}
	}
	if looked < 1<<20 {
		t.Fatalf("only %d bytes of the server's memory were looked at", looked)
	}
	t.Logf("%d MiB of memory", looked>>20)
}
