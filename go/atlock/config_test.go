package atlock_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "locking.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfig(t *testing.T) {
	path := writeConfig(t, `
locking:
  backend: sled
  data_dir: /data
  timeout: 2s 500ms
  enhanced:
    enabled: true
    compatibility_mode: native
    redis: {address: 'redis:6379', password: hunter2, shared_with_stock: false, timeouts: {operation: 250ms}}
`)
	t.Setenv("ATLANTIS_ENHANCED_LOCKING_REDIS_DB", "3")
	config, err := atlock.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	redis := config.Locking.Enhanced.Redis
	switch {
	case config.Locking.Backend != "sled", config.Locking.DataDir != "/data",
		time.Duration(config.Locking.Timeout) != 2500*time.Millisecond,
		config.Locking.Enhanced.CompatibilityMode != "native", redis.Address != "redis:6379", redis.DB != 3,
		redis.Password != "hunter2", *redis.SharedWithStock, time.Duration(redis.Timeouts.Operation) != 250*time.Millisecond:
		t.Fatalf("got %+v", config)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, config); strings.Contains(text, "hunter2") {
			t.Errorf("%s shows the password: %s", verb, text)
		}
	}
}

// Without a file and without variables, Atlantis is as stock.
func TestLoadConfigWithoutFile(t *testing.T) {
	config, err := atlock.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if config.Locking.Backend != "boltdb" || config.Locking.Enhanced.Enabled {
		t.Fatalf("got %+v", config)
	}
}

func TestLoadConfigOver(t *testing.T) {
	path := writeConfig(t, "locking: {enhanced: {enabled: true, compatibility_mode: hybrid, redis: {password_file: secret}}}")
	defaults := atlock.Config{Locking: atlock.Locking{DataDir: "/data/atlock", Enhanced: atlock.Enhanced{
		Redis: atlock.Redis{Address: "flag:1", Password: "hunter2", DB: 3}}}}
	config, err := atlock.LoadConfigOver(defaults, path)
	if err != nil {
		t.Fatal(err)
	}
	redis := config.Locking.Enhanced.Redis
	if config.Locking.DataDir != "/data/atlock" || redis.Address != "flag:1" || redis.DB != 3 || redis.PasswordFile != "secret" || redis.Password != "" {
		t.Errorf("got %+v", config)
	}
	t.Setenv("ATLANTIS_ENHANCED_LOCKING_REDIS_ADDRESS", "variable:1")
	if config, err = atlock.LoadConfigOver(defaults, path); err != nil {
		t.Fatal(err)
	}
	if redis = config.Locking.Enhanced.Redis; redis.Address != "variable:1" || redis.DB != 0 {
		t.Errorf("a server in the environment: got %+v", redis)
	}
}

func TestLoadConfigNamesTheMistake(t *testing.T) {
	path := writeConfig(t, "locking:\n  enhanced:\n    enabeld: true\n")
	_, err := atlock.LoadConfig(path)
	want := path + `:3:5: unknown key "enabeld"; did you mean "enabled"?`
	if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := atlock.LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, atlock.ErrInvalidConfig) {
		t.Errorf("a missing file: got %v", err)
	}
	t.Setenv("ATLANTIS_ENHANCED_LOCKING_ENABLE", "true")
	if _, err := atlock.LoadConfig(""); !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "ATLANTIS_ENHANCED_LOCKING_ENABLED") {
		t.Errorf("a misspelt variable: got %v", err)
	}
}

// Every field of Config is a key that the library knows, and the other way round.
func TestConfigHasTheLibrarysKeys(t *testing.T) {
	loaded, err := atlock.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	shared := true
	full := loaded
	full.Locking.DataDir = t.TempDir()
	full.Locking.Backend = "sled"
	full.Locking.Audit = atlock.Audit{File: filepath.Join(t.TempDir(), "audit"), MaxBytes: 1 << 20, Keep: 2}
	full.Locking.Enhanced.Redis = atlock.Redis{
		Address: "a:1", Addresses: []string{"a:1"}, ClusterMode: true, Username: "u", Password: "p", PasswordFile: "f", DB: 1,
		TLS:             atlock.TLS{Enabled: true, CAFile: "a", CertFile: "b", KeyFile: "c"},
		SharedWithStock: &shared, WaitReplicas: 1,
		Timeouts: atlock.RedisTimeouts{Connect: atlock.Duration(time.Second), Operation: atlock.Duration(time.Second)},
	}
	// Strict: the Redis block is read but not used.
	database, err := atlock.Open(full)
	if err != nil {
		t.Fatalf("a Config with every field set is refused: %v", err)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenNeedsAStore(t *testing.T) {
	_, err := atlock.Open(atlock.Config{})
	if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "WithLegacy") {
		t.Errorf("got %v", err)
	}
	_, err = atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: writeConfig(t, "a file")}})
	if !errors.Is(err, atlock.ErrStoreNotWritable) {
		t.Errorf("a file as data folder: got %v", err)
	}
}

func TestSecondOpenerIsTold(t *testing.T) {
	config := atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}}
	first, err := atlock.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := atlock.Open(config); !errors.Is(err, atlock.ErrStoreBusy) {
		t.Errorf("got %v", err)
	}
}

func TestStatusAndHealth(t *testing.T) {
	legacy, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]struct {
		config  atlock.Config
		options []atlock.Option
	}{
		"sled":   {config: atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: t.TempDir()}}},
		"boltdb": {options: []atlock.Option{atlock.WithLegacy(legacy)}},
	}
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			database, err := atlock.Open(c.config, c.options...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := database.List(); err != nil {
				t.Fatal(err)
			}
			status, err := database.Status()
			if err != nil || status.Mode != "strict" || status.LegacyOps != 1 || status.EnhancedOps != 0 || status.Version == "" ||
				status.FallbackActive || status.CircuitState != "" || status.Conflicts != nil {
				t.Errorf("status %+v, %v", status, err)
			}
			health, err := database.Health()
			if err != nil || health.Overall != "healthy" || health.CircuitState != "disabled" || health.Enhanced != nil ||
				health.Legacy == nil || !health.Legacy.Healthy || health.Legacy.ResponseTimeMS <= 0 || health.Legacy.Error != "" {
				t.Errorf("health %+v, %v", health, err)
			}
			if err := database.Close(); err != nil {
				t.Fatal(err)
			}
			health, err = database.Health()
			if err != nil || health.Overall != "unhealthy" || health.Legacy.Healthy || !strings.Contains(health.Legacy.Error, "closed") {
				t.Errorf("after Close: health %+v, %v", health, err)
			}
			if _, err := database.List(); !errors.Is(err, atlock.ErrClosed) {
				t.Errorf("after Close: List gave %v", err)
			}
		})
	}
}

// Redis is away from the start, and comes up: no field of what the library tells is lost on the way.
func TestStatusAndHealthOfHybridMode(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	redis.Kill()
	settings := atlock.Locking{Backend: "sled", DataDir: t.TempDir(), Enhanced: atlock.Enhanced{Enabled: true, CompatibilityMode: "hybrid", AllowUnseenRedis: true,
		Redis: atlock.Redis{Address: redis.Addr}}}
	database, err := atlock.Open(atlock.Config{Locking: settings})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	if _, _, err := database.TryLock(models.ProjectLock{Project: models.NewProject("acme/infra", ".", ""), Workspace: "default"}); err != nil {
		t.Fatal(err)
	}
	status, err := database.Status()
	if err != nil || !status.FallbackActive || status.FallbackOps != 1 || status.CircuitState == "closed" || status.Cause == "" ||
		!status.Armed || status.JournalLength != 1 || time.Since(status.Since.Time()).Abs() > time.Minute || status.LastRecovery != nil {
		t.Errorf("status %+v, %v", status, err)
	}
	health, err := database.Health()
	if err != nil || health.Overall != "degraded" || health.CircuitState == "closed" || health.Enhanced.Healthy ||
		health.Enhanced.Error == "" || !health.Legacy.Healthy {
		t.Errorf("health %+v, %v", health, err)
	}

	redis.Restart(t)
	for giveUp := time.Now().Add(30 * time.Second); status.FallbackActive; time.Sleep(10 * time.Millisecond) {
		if status, err = database.Status(); err != nil || time.Now().After(giveUp) {
			t.Fatalf("status %+v, %v", status, err)
		}
	}
	for status.LastRecovery == nil {
		if status, err = database.Status(); err != nil {
			t.Fatal(err)
		}
	}
	if status.CircuitState != "closed" || status.Cause != "" || status.LastRecovery.Pushed != 1 || status.LastRecovery.At == 0 {
		t.Errorf("status %+v, recovery %+v", status, status.LastRecovery)
	}
}

// What the library writes of hybrid mode has its place here.
func TestStatusOfConflicts(t *testing.T) {
	text := `{"version":"1","mode":"hybrid","enhanced_enabled":true,"instance":"i","legacy_ops":0,"enhanced_ops":1,"fallback_ops":2,` +
		`"errors":3,"fallback_active":true,"circuit_state":"half-open","cause":"c","since":1,"armed":true,"unarmed_because":"u",` +
		`"journal_length":4,"conflicts":[{"key":"k","local_pull":5,"redis_pull":6,"at":1795508220123456}],` +
		`"last_recovery":{"at":7,"duration_ms":8,"pushed":9,"restored":10,"adopted":11,"conflicts":12},"warnings":[]}`
	var status atlock.Status
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(status); err != nil || string(again) != text {
		t.Errorf("%s became\n%s (%v)", text, again, err)
	}
	if found := status.Conflicts[0].At.Time().UTC().Format(time.RFC3339Nano); found != "2026-11-24T08:17:00.123456Z" {
		t.Errorf("found at %s", found)
	}
}

// Atlantis's own store is called directly, so that nothing can be recorded: an operator must know.
func TestAuditOfAtlantisOwnStore(t *testing.T) {
	legacy, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	config := atlock.Config{Locking: atlock.Locking{Audit: atlock.Audit{File: filepath.Join(t.TempDir(), "audit")}}}
	database, err := atlock.Open(config, atlock.WithLegacy(legacy), atlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	status, err := database.Status()
	if err != nil || len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "locking.audit") {
		t.Errorf("status %+v, %v", status, err)
	}
	if !strings.Contains(log.String(), "locking.audit") {
		t.Errorf("the log: %s", log.String())
	}
}

// A mode that was set and not enabled may have been forgotten.
func TestModeThatIsNotEnabled(t *testing.T) {
	for _, backend := range []string{"boltdb", "sled"} {
		config := atlock.Config{Locking: atlock.Locking{
			Backend: backend, DataDir: t.TempDir(), Enhanced: atlock.Enhanced{CompatibilityMode: "hybrid"},
		}}
		database, err := atlock.Open(config, atlock.WithBoltDB(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		defer database.Close()
		status, err := database.Status()
		if err != nil || len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "enabled is false: strict mode answers") {
			t.Errorf("%s: warnings %q, %v", backend, status.Warnings, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, d := range []time.Duration{0, time.Nanosecond, 1500 * time.Millisecond, 30 * time.Second} {
		text, err := json.Marshal(atlock.Duration(d))
		if err != nil {
			t.Fatal(err)
		}
		var back atlock.Duration
		if err := json.Unmarshal(text, &back); err != nil || time.Duration(back) != d {
			t.Errorf("%v became %s and then %v (%v)", d, text, back, err)
		}
	}
}
