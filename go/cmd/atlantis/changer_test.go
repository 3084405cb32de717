package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/control"
	"github.com/atlock/atlock/go/handover"
)

// serving is a changer over an open database, as newLinked makes it.
func serving(t *testing.T, user server.UserConfig, file string) *changer {
	t.Helper()
	settings, err := loadSettings(file, user, nil)
	if err != nil || settings == nil {
		t.Fatalf("settings %+v, %v", settings, err)
	}
	logger := slog.New(slog.DiscardHandler)
	database, err := openDatabase(*settings, user, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close() })
	return &changer{database: database, handover: &handover.Handover{}, user: user, named: file, settings: *settings, logger: logger}
}

func (c *changer) ask(t *testing.T, op, input string) (any, error) {
	t.Helper()
	return c.answer(control.Request{Op: op, Input: json.RawMessage(input)})
}

func modeIs(t *testing.T, c *changer, want atlock.Mode) {
	t.Helper()
	status, err := c.database.Status()
	if err != nil || status.Mode != want {
		t.Fatalf("mode %s, %v; want %s", status.Mode, err, want)
	}
	// A restart comes to the same.
	settings, err := loadSettings(c.named, c.user, os.Environ())
	if err != nil || settings.Mode() != want {
		t.Fatalf("after a restart: %+v, %v; want %s", settings, err, want)
	}
}

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const withComments = "# ours\nlocking: # all of it\n  enhanced:\n    enabled: false # for now\n    compatibility_mode: hybrid\n"

func TestTheModeIsChangedInTheFileToo(t *testing.T) {
	user, redis := withRedis(t, "boltdb")
	file := writeFile(t, filepath.Join(t.TempDir(), "locking.yaml"), withComments)
	c := serving(t, user, file)
	take(t, c.database, "a")
	for _, mode := range []string{"hybrid", "native", "strict", "native"} {
		if _, err := c.ask(t, "change_mode", `"`+mode+`"`); err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		modeIs(t, c, atlock.Mode(mode))
		wantHeld(t, c.database, "a")
		if text := textOf(t, file); !strings.HasPrefix(text, "# ours\nlocking: # all of it\n") || !strings.Contains(text, " # for now\n") {
			t.Errorf("the file is\n%s", text)
		}
	}
	// To go back needs the Redis that alone knows the locks. The file is as it was.
	redis.Kill()
	before := textOf(t, file)
	if _, err := c.ask(t, "change_mode", `"hybrid"`); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("without Redis: %v", err)
	}
	if text := textOf(t, file); text != before {
		t.Errorf("the file is\n%s", text)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); left != nil {
		t.Errorf("left are %v", left)
	}
}

func TestChangesThatAreRefused(t *testing.T) {
	user, _ := withRedis(t, "boltdb")
	file := writeFile(t, filepath.Join(t.TempDir(), "locking.yaml"), withComments)
	c := serving(t, user, file)
	refused := func(op, input string, sentinel error, text string) {
		t.Helper()
		if _, err := c.ask(t, op, input); !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s %s: %v", op, input, err)
		}
		if status, err := c.database.Status(); err != nil || status.Mode != "strict" {
			t.Errorf("%s %s: %+v, %v", op, input, status, err)
		}
	}
	refused("change_mode", `"sideways"`, atlock.ErrInvalidArgument, "it is strict, hybrid or native")
	refused("turn", "", atlock.ErrUnsupported, `"turn"`)

	t.Setenv("ATLANTIS_ENHANCED_LOCKING_ENABLED", "false")
	refused("change_mode", `"hybrid"`, atlock.ErrInvalidConfig, "an environment variable (ATLANTIS_ENHANCED_LOCKING_…) decides")
	os.Unsetenv("ATLANTIS_ENHANCED_LOCKING_ENABLED")

	writeFile(t, file, withComments+"  data_dir: /elsewhere\n  socket: read\n")
	refused("reload", "", atlock.ErrInvalidConfig, "locking.data_dir, locking.socket is read at a start alone")
	writeFile(t, file, "# nothing\n")
	refused("change_mode", `"hybrid"`, atlock.ErrInvalidConfig, "type `atlock reload`")
	writeFile(t, file, "locking: {nonsense: 1}\n")
	refused("reload", "", atlock.ErrInvalidConfig, `unknown key "nonsense"`)

	// No file beside it can be made.
	c.named = writeFile(t, filepath.Join(t.TempDir(), strings.Repeat("x", 250)), withComments)
	refused("change_mode", `"hybrid"`, atlock.ErrInvalidConfig, "cannot be written")
	c.named = ""
	refused("change_mode", `"hybrid"`, atlock.ErrInvalidConfig, "no settings file")
	c.settings.Locking.Socket = atlock.SocketRead
	refused("reload", "", atlock.ErrPermission, "locking.socket is read")
	if answer, err := c.ask(t, "mode", ""); err != nil || answer.(modeAnswer).Mode != "strict" {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestAReloadTakesWhatTheFileSays(t *testing.T) {
	user, _ := withRedis(t, "boltdb")
	trail := filepath.Join(t.TempDir(), "audit")
	settings := withComments + "  audit: {file: " + trail + "}\n"
	file := writeFile(t, filepath.Join(t.TempDir(), "locking.yaml"), settings)
	c := serving(t, user, file)
	take(t, c.database, "a")
	if exchanged, err := c.reload("signal"); err != nil || exchanged.Result != "unchanged" {
		t.Fatalf("%+v, %v", exchanged, err)
	}
	writeFile(t, file, strings.Replace(settings, "false", "true", 1))
	exchanged, err := c.reload("signal")
	if err != nil || exchanged.From != "strict" || exchanged.To != "hybrid" || exchanged.Locks != 1 {
		t.Fatalf("%+v, %v", exchanged, err)
	}
	modeIs(t, c, "hybrid")
	// Before and afterwards, of either store; the names of what changed, by whom, and no value.
	told := 0
	for line := range strings.Lines(textOf(t, trail)) {
		if strings.Contains(line, `"kind":"change"`) {
			told++
			if !strings.Contains(line, `"via":"signal"`) || !strings.Contains(line, `"settings":["locking.enhanced.enabled"]`) {
				t.Errorf("the trail has %s", line)
			}
		}
	}
	if told != 2 {
		t.Errorf("%d changes are told", told)
	}
}

// A server that is killed just before its file is replaced starts in the mode of before; the file beside it is in nobody's way.
// Callers work all the time; each holds what it took, whatever the key.
func TestAReloadReadsTheKeyAgain(t *testing.T) {
	user := user(t)
	key := writeFile(t, filepath.Join(t.TempDir(), "key"), "")
	keys := func(digits ...string) {
		t.Helper()
		var text strings.Builder
		for _, two := range digits {
			text.WriteString(strings.Repeat(two, 32) + "\n")
		}
		if err := os.WriteFile(key, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys("ab")
	file := writeFile(t, filepath.Join(t.TempDir(), "locking.yaml"), "locking: {backend: sled, encryption: {key_file: "+key+"}}\n")
	c := serving(t, user, file)
	take(t, c.database, "a")
	stop, failed := make(chan struct{}), make(chan error, 1)
	var callers sync.WaitGroup
	callers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if locks, err := c.database.List(); err != nil || len(locks) == 0 {
				select {
				case failed <- fmt.Errorf("%d locks, %w", len(locks), err):
				default:
				}
			}
		}
	})
	for _, digits := range [][]string{{"cd", "ab"}, {"cd"}, {"ef", "cd"}, {"ef"}} {
		keys(digits...)
		if _, err := c.ask(t, "reload", "null"); err != nil {
			t.Fatalf("%v: %v", digits, err)
		}
		take(t, c.database, digits[0]+digits[len(digits)-1])
	}
	// Found out before anything is closed: the server goes on.
	keys("12")
	if _, err := c.ask(t, "reload", "null"); !errors.Is(err, atlock.ErrEncryptionKey) {
		t.Errorf("another key: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ask(t, "reload", "null"); !errors.Is(err, atlock.ErrInvalidConfig) {
		t.Errorf("no key: %v", err)
	}
	wantHeld(t, c.database, "a", "cdab", "cdcd", "efcd", "efef")
	take(t, c.database, "later")
	close(stop)
	callers.Wait()
	select {
	case err := <-failed:
		t.Error("a caller was told of ", err)
	default:
	}
	status, err := c.database.Status()
	if want := (atlock.AtRest{Encrypted: true, Embedded: "sealed"}); err != nil || status.AtRest != want {
		t.Errorf("at rest %+v, %v", status.AtRest, err)
	}
}

func TestAKillBeforeTheFileIsReplaced(t *testing.T) {
	user, _ := withRedis(t, "boltdb")
	file := writeFile(t, filepath.Join(t.TempDir(), "locking.yaml"), withComments)
	c := serving(t, user, file)
	take(t, c.database, "a")
	hybrid, err := withMode([]byte(withComments), "native")
	if err != nil {
		t.Fatal(err)
	}
	made, err := stage(file, hybrid)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := loadSettings(made.beside, user, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.change(*settings, nil, nil); err != nil {
		t.Fatal(err)
	}
	take(t, c.database, "b")
	closed(t, c.database)
	again := serving(t, user, file)
	modeIs(t, again, "strict")
	if _, err := again.ask(t, "change_mode", `"hybrid"`); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); left != nil {
		t.Errorf("left are %v", left)
	}
	wantHeld(t, again.database, "a", "b")
}

// The server moves its locks to another store, and goes on there; or stays where it is.
func TestTheServerMigrates(t *testing.T) {
	user, redis := withRedis(t, "boltdb")
	folder := t.TempDir()
	sled := "locking:\n  backend: sled\n  data_dir: " + filepath.Join(folder, "sled") + "\n"
	file := writeFile(t, filepath.Join(folder, "locking.yaml"), sled)
	native := func(address string) string {
		return "locking:\n  backend: sled\n  data_dir: " + filepath.Join(folder, "native") + "\n  enhanced: {enabled: true, compatibility_mode: native, redis: {address: '" + address + "'}}\n"
	}
	moves := func(c *changer, to, work string) (*moved, error) {
		input, err := json.Marshal(moving{From: "config:" + file, To: to, Work: filepath.Join(folder, work), Execute: true})
		if err != nil {
			t.Fatal(err)
		}
		return c.migrate(input, nil)
	}
	c := serving(t, user, file)
	t.Cleanup(c.stopListening)
	take(t, c.database, "a")
	take(t, c.database, "b")

	nowhere := writeFile(t, filepath.Join(folder, "nowhere.yaml"), native("127.0.0.1:1"))
	if _, err := moves(c, nowhere, "w1"); !errors.Is(err, atlock.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	modeIs(t, c, "strict")
	wantHeld(t, c.database, "a", "b")

	to := writeFile(t, filepath.Join(folder, "new.yaml"), native(redis.Addr))
	look, err := json.Marshal(moving{From: "config:" + file, To: to, Work: filepath.Join(folder, "w0")})
	if err != nil {
		t.Fatal(err)
	}
	planned, err := c.migrate(look, nil)
	if err != nil || planned.Status != 0 || !strings.Contains(planned.Out, "phase     planned; nothing was changed") {
		t.Fatalf("%+v, %v", planned, err)
	}
	modeIs(t, c, "strict")
	wantHeld(t, c.database, "a", "b")

	// Redis has one of the locks for another pull request: nothing is moved, and the store of before goes on.
	other, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Enhanced: atlock.Enhanced{
		Enabled: true, CompatibilityMode: atlock.ModeNative, Redis: atlock.Redis{Address: redis.Addr},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	others := lock("a")
	others.Pull.Num = 2
	if acquired, _, err := other.TryLock(others); err != nil || !acquired {
		t.Fatal(acquired, err)
	}
	if _, err := moves(c, to, "w2"); err == nil || !strings.Contains(err.Error(), "The settings of before hold again") {
		t.Fatalf("got %v", err)
	} else {
		t.Log(err)
	}
	modeIs(t, c, "strict")
	wantHeld(t, c.database, "a", "b")
	if _, err := other.Unlock(others.Project, others.Workspace); err != nil {
		t.Fatal(err)
	}
	closed(t, other)

	came, err := moves(c, to, "w3")
	if err != nil || came.Status != 0 || came.Locks != 2 || !strings.Contains(came.Out, "phase     complete") {
		t.Fatalf("%+v, %v", came, err)
	}
	modeIs(t, c, "native")
	wantHeld(t, c.database, "a", "b")
	take(t, c.database, "c")
	if text, kept := textOf(t, file), textOf(t, filepath.Join(folder, "w3", settingsBefore)); text != native(redis.Addr) || kept != sled {
		t.Errorf("the file is\n%s, and was\n%s", text, kept)
	}
	// The old store refuses whoever comes.
	if _, err := open(t, user, sled); !errors.Is(err, atlock.ErrStoreMoved) {
		t.Errorf("the old store: %v", err)
	}
}

// From one Redis to another, where this server was announced a moment ago; and back.
func TestTheServerMigratesFromRedisToRedis(t *testing.T) {
	user, first := withRedis(t, "boltdb")
	_, second := withRedis(t, "boltdb")
	folder := t.TempDir()
	hybrid := func(address string, number string) string {
		return "locking:\n  backend: sled\n  data_dir: " + filepath.Join(folder, number) +
			"\n  enhanced: {enabled: true, compatibility_mode: hybrid, redis: {address: '" + address + "'}}\n"
	}
	file := writeFile(t, filepath.Join(folder, "locking.yaml"), hybrid(first.Addr, "1"))
	c := serving(t, user, file)
	t.Cleanup(c.stopListening)
	take(t, c.database, "a")
	to := writeFile(t, filepath.Join(folder, "new.yaml"), hybrid(second.Addr, "2"))
	input, err := json.Marshal(moving{From: "config:" + file, To: to, Work: filepath.Join(folder, "work"), Execute: true})
	if err != nil {
		t.Fatal(err)
	}
	came, err := c.migrate(input, nil)
	if err != nil || came.Locks != 1 {
		t.Fatalf("%+v, %v", came, err)
	}
	first.Kill() // nobody needs it any more
	wantHeld(t, c.database, "a")
	take(t, c.database, "b")
	modeIs(t, c, "hybrid")
}
