package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/capi"
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
	config, err := client.LoadConfig(path)
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
	config, err := client.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if config.Locking.Backend != "boltdb" || config.Locking.Enhanced.Enabled {
		t.Fatalf("got %+v", config)
	}
}

func TestLoadConfigOver(t *testing.T) {
	path := writeConfig(t, "locking: {enhanced: {enabled: true, compatibility_mode: hybrid, redis: {password_file: secret}}}")
	defaults := client.Config{Locking: client.Locking{DataDir: "/data/atlock", Enhanced: client.Enhanced{
		Redis: client.Redis{Address: "flag:1", Password: "hunter2", DB: 3}}}}
	config, err := client.LoadConfigOver(defaults, path)
	if err != nil {
		t.Fatal(err)
	}
	redis := config.Locking.Enhanced.Redis
	if config.Locking.DataDir != "/data/atlock" || redis.Address != "flag:1" || redis.DB != 3 || redis.PasswordFile != "secret" || redis.Password != "" {
		t.Errorf("got %+v", config)
	}
	t.Setenv("ATLANTIS_ENHANCED_LOCKING_REDIS_ADDRESS", "variable:1")
	if config, err = client.LoadConfigOver(defaults, path); err != nil {
		t.Fatal(err)
	}
	if redis = config.Locking.Enhanced.Redis; redis.Address != "variable:1" || redis.DB != 0 {
		t.Errorf("a server in the environment: got %+v", redis)
	}
}

func TestLoadConfigNamesTheMistake(t *testing.T) {
	path := writeConfig(t, "locking:\n  enhanced:\n    enabeld: true\n")
	_, err := client.LoadConfig(path)
	want := path + `:3:5: unknown key "enabeld"; did you mean "enabled"?`
	if !errors.Is(err, client.ErrInvalidConfig) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := client.LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, client.ErrInvalidConfig) {
		t.Errorf("a missing file: got %v", err)
	}
	t.Setenv("ATLANTIS_ENHANCED_LOCKING_ENABLE", "true")
	if _, err := client.LoadConfig(""); !errors.Is(err, client.ErrInvalidConfig) || !strings.Contains(err.Error(), "ATLANTIS_ENHANCED_LOCKING_ENABLED") {
		t.Errorf("a misspelt variable: got %v", err)
	}
}

// The example of the original specification, as it is there.
const specification = `locking: {backend: "boltdb", enhanced: {enabled: true, backend: "redis",
compatibility_mode: "hybrid", legacy_fallback: true, redis: {address: "localhost:6379", password: "", db: 0, cluster_mode: false}, priority_queue: {enabled: false}, deadlock_detection: {enabled: false}, timeouts: {default: "30m", max: "2h"}}}`

func TestLoadConfigTakesTheSpecificationsExample(t *testing.T) {
	config, err := client.LoadConfig(writeConfig(t, specification))
	if err != nil {
		t.Fatal(err)
	}
	enhanced := config.Locking.Enhanced
	if config.Mode() != client.ModeHybrid || enhanced.PriorityQueue.Enabled || enhanced.DeadlockDetection.Enabled ||
		time.Duration(enhanced.Timeouts.Default) != 30*time.Minute || time.Duration(enhanced.Timeouts.Max) != 2*time.Hour {
		t.Errorf("got %+v", config)
	}
}

// What the library says is in Config, key by key.
func TestConfigLosesNoKey(t *testing.T) {
	path := writeConfig(t, `
locking:
  enhanced:
    priority_queue: {repos: ['a/*', b/c], sets: whole, aging: 1h, rules: [{repo: a/b, base: main, author: 'ann*', priority: high}]}
    deadlock_detection: {resolve: yield, confirm: 5s}
    timeouts: {default: 1m, max: 2m}
`)
	settings, err := capi.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	defer settings.Free()
	decoder := json.NewDecoder(bytes.NewReader(settings.Bytes()))
	decoder.DisallowUnknownFields()
	var config client.Config
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	enhanced := config.Locking.Enhanced
	if repos := enhanced.PriorityQueue.Repos; !slices.Equal(repos, []string{"a/*", "b/c"}) {
		t.Errorf("got the repositories %q", repos)
	}
	if rules := enhanced.PriorityQueue.Rules; enhanced.PriorityQueue.Sets != client.SetsWhole || len(rules) != 1 ||
		rules[0] != (client.PriorityRule{Repo: "a/b", Base: "main", Author: "ann*", Priority: "high"}) ||
		enhanced.DeadlockDetection.Resolve != client.ResolveYield || time.Duration(enhanced.DeadlockDetection.Confirm) != 5*time.Second ||
		time.Duration(enhanced.Timeouts.Max) != 2*time.Minute {
		t.Errorf("got %+v", enhanced)
	}
}

// Every field of Config is a key that the library knows, and the other way round.
func TestConfigHasTheLibrarysKeys(t *testing.T) {
	loaded, err := client.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	shared := true
	full := loaded
	full.Locking.DataDir = t.TempDir()
	full.Locking.Backend = "sled"
	full.Locking.Socket = client.SocketRead
	full.Locking.Audit = client.Audit{File: filepath.Join(t.TempDir(), "audit"), MaxBytes: 1 << 20, Keep: 2, Required: true}
	t.Setenv("ATLOCK_TEST_KEY", strings.Repeat("ab", 32))
	full.Locking.Encryption = client.Encryption{KeyEnv: "ATLOCK_TEST_KEY"}
	full.Locking.Enhanced.Redis = client.Redis{
		Address: "a:1", Addresses: []string{"a:1"}, ClusterMode: true, Username: "u", Password: "p", PasswordFile: "f", DB: 1,
		PasswordCommand: []string{"c"},
		TLS:             client.TLS{Enabled: true, CAFile: "a", CertFile: "b", KeyFile: "c", ServerName: "s"},
		Sentinel: client.Sentinel{Addresses: []string{"a:1"}, MasterName: "m", Username: "u", Password: "p", PasswordFile: "f",
			TLS: client.TLS{Enabled: true, CAFile: "a", CertFile: "b", KeyFile: "c", ServerName: "s"}},
		SharedWithStock: &shared, WaitReplicas: 1,
		Timeouts: client.RedisTimeouts{Connect: client.Duration(time.Second), Operation: client.Duration(time.Second)},
	}
	full.Locking.Enhanced.PriorityQueue = client.PriorityQueue{Enabled: true, Sets: client.SetsWhole, Aging: client.Duration(time.Hour),
		Rules: []client.PriorityRule{{Repo: "a/*", Base: "main", Author: "a*", Label: "l*", Priority: "low"}}}
	full.Locking.Enhanced.DeadlockDetection = client.DeadlockDetection{
		Enabled: true, Resolve: client.ResolveYield, Confirm: client.Duration(time.Second)}
	full.Locking.Enhanced.Timeouts = client.LockTimeouts{Default: client.Duration(time.Minute), Max: client.Duration(time.Hour)}
	// Strict: the Redis block is read but not used.
	database, err := client.Open(full)
	if err != nil {
		t.Fatalf("a Config with every field set is refused: %v", err)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDuration(t *testing.T) {
	for _, d := range []time.Duration{0, time.Nanosecond, 1500 * time.Millisecond, 30 * time.Second} {
		text, err := json.Marshal(client.Duration(d))
		if err != nil {
			t.Fatal(err)
		}
		var back client.Duration
		if err := json.Unmarshal(text, &back); err != nil || time.Duration(back) != d {
			t.Errorf("%v became %s and then %v (%v)", d, text, back, err)
		}
	}
}
