package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
)

const hybridFile = "locking: {enhanced: {enabled: true, compatibility_mode: hybrid}}\n"

// The example of the original specification, as it is there.
const specification = `locking: {backend: "boltdb", enhanced: {enabled: true, backend: "redis",
compatibility_mode: "hybrid", legacy_fallback: true, redis: {address: "localhost:6379", password: "", db: 0, cluster_mode: false}, priority_queue: {enabled: false}, deadlock_detection: {enabled: false}, timeouts: {default: "30m", max: "2h"}}}`

// user is Atlantis's configuration after it filled in its own defaults.
func user(t *testing.T) server.UserConfig {
	t.Helper()
	return server.UserConfig{DataDir: t.TempDir(), LockingDBType: "boltdb", RedisPort: 6379}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Who could have written the settings is told.
func TestDistrust(t *testing.T) {
	folder := t.TempDir()
	for name, c := range map[string]struct {
		owner     int
		mode      os.FileMode
		inDataDir bool
		want      string
	}{
		"root's":                      {0, 0o640, false, ""},
		"root's, in the data folder":  {0, 0o640, true, ""},
		"somebody's":                  {54321, 0o640, false, "belongs to user 54321"},
		"everybody's":                 {0, 0o666, false, "may be written by others"},
		"a group's":                   {0, 0o660, false, "may be written by others"},
		"somebody's, in the data one": {54321, 0o600, true, "belongs to user 54321"},
	} {
		path := writeFile(t, filepath.Join(folder, "locking.yaml"), "locking: {}\n")
		if err := errors.Join(os.Chmod(path, c.mode), os.Chown(path, c.owner, 0)); err != nil {
			t.Fatalf("this test gives files to others: run it as root: %v", err)
		}
		if why := distrust(path, c.inDataDir); (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q", name, why)
		}
	}
	if why := distrust(filepath.Join(folder, "none.yaml"), true); why != "" {
		t.Errorf("what is not there: %q", why)
	}
}

func TestNoSettings(t *testing.T) {
	environment := []string{"ATLANTIS_LOCKING_DB_TYPE=redis", "ATLANTIS_LOCKING_CONFIG=", "ATLANTIS_REDIS_HOST=r", "PATH=/bin"}
	settings, err := loadSettings("", user(t), environment)
	if settings != nil || err != nil {
		t.Errorf("got %+v, %v", settings, err)
	}
}

func TestSettingsFrom(t *testing.T) {
	named := writeFile(t, filepath.Join(t.TempDir(), "mine.yaml"), hybridFile)
	example := writeFile(t, filepath.Join(t.TempDir(), "example.yaml"), specification)
	queue := writeFile(t, filepath.Join(t.TempDir(), "queue.yaml"), strings.Replace(specification, "enabled: false", "enabled: true", 1))
	inDataDir := user(t)
	writeFile(t, filepath.Join(inDataDir.DataDir, "locking.yaml"), hybridFile)

	for name, c := range map[string]struct {
		file        string
		user        server.UserConfig
		environment []string
		mode        string
	}{
		"the flag":                      {file: named, user: user(t), mode: "hybrid"},
		"the data folder":               {user: inDataDir, mode: "hybrid"},
		"the environment":               {user: user(t), environment: []string{"ATLANTIS_ENHANCED_LOCKING_ENABLED=true", "ATLANTIS_ENHANCED_LOCKING_COMPATIBILITY_MODE=native"}, mode: "native"},
		"a variable outside enhanced":   {user: user(t), environment: []string{"ATLANTIS_LOCKING_BACKEND=sled"}, mode: "strict"},
		"the rollback, without a file":  {user: user(t), environment: []string{"ATLANTIS_ENHANCED_LOCKING_ENABLED=false"}, mode: "strict"},
		"the rollback over the file":    {file: named, user: user(t), environment: []string{"ATLANTIS_ENHANCED_LOCKING_ENABLED=false"}, mode: "strict"},
		"the specification's example":   {file: example, user: user(t), mode: "hybrid"},
		"the rollback of a queue":       {file: queue, user: user(t), environment: []string{"ATLANTIS_ENHANCED_LOCKING_ENABLED=false"}, mode: "strict"},
		"the environment over the file": {user: inDataDir, environment: []string{"ATLANTIS_ENHANCED_LOCKING_COMPATIBILITY_MODE=native"}, mode: "native"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range c.environment {
				key, value, _ := strings.Cut(variable, "=")
				t.Setenv(key, value)
			}
			settings, err := loadSettings(c.file, c.user, c.environment)
			if err != nil || settings == nil {
				t.Fatalf("got %+v, %v", settings, err)
			}
			if settings.Mode() != atlock.Mode(c.mode) || settings.Locking.DataDir != filepath.Join(c.user.DataDir, "atlock") {
				t.Errorf("mode %s, folder %s", settings.Mode(), settings.Locking.DataDir)
			}
		})
	}
}

func TestWrongSettingsStopTheStart(t *testing.T) {
	typo := writeFile(t, filepath.Join(t.TempDir(), "typo.yaml"), "locking:\n  bakend: sled\n")
	broken := user(t)
	if err := os.Mkdir(filepath.Join(broken.DataDir, "locking.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	unknown := user(t)
	unknown.LockingDBType = "postgres"
	insecure := user(t)
	insecure.RedisTLSEnabled, insecure.RedisInsecureSkipVerify = true, true
	hybrid := writeFile(t, filepath.Join(t.TempDir(), "hybrid.yaml"), hybridFile)

	for _, c := range []struct {
		file string
		user server.UserConfig
		want string
	}{
		{typo, user(t), typo + `:2:3: unknown key "bakend"; did you mean "backend"?`},
		{"none.yaml", user(t), "cannot read the locking configuration none.yaml"},
		{"", broken, filepath.Join(broken.DataDir, "locking.yaml")},
		{hybrid, unknown, `--locking-db-type is "postgres"`},
		{hybrid, insecure, "--redis-insecure-skip-verify is set"},
	} {
		if settings, err := loadSettings(c.file, c.user, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %+v, %v; want %s", settings, err, c.want)
		}
	}

	// Whoever says how the certificate is checked need not remove the flag; strict mode is Atlantis's own code, which heeds it.
	withCA := writeFile(t, filepath.Join(t.TempDir(), "ca.yaml"),
		"locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {tls: {ca_file: ca.pem}}}}")
	strict := writeFile(t, filepath.Join(t.TempDir(), "strict.yaml"), "locking: {backend: boltdb}")
	for _, file := range []string{withCA, strict} {
		if _, err := loadSettings(file, insecure, nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAMisspeltVariableStopsTheStart(t *testing.T) {
	t.Setenv("ATLANTIS_ENHANCED_LOCKING_ENABLE", "true")
	_, err := loadSettings("", user(t), os.Environ())
	if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), `did you mean ATLANTIS_ENHANCED_LOCKING_ENABLED?`) {
		t.Errorf("got %v", err)
	}
}

func TestRedisFlagsAreDefaults(t *testing.T) {
	single := server.UserConfig{RedisHost: "redis.example", RedisPort: 6380, RedisUsername: "u", RedisPassword: "p", RedisDB: 3, RedisTLSEnabled: true}
	for name, c := range map[string]struct {
		user server.UserConfig
		want atlock.Redis
	}{
		"none":    {server.UserConfig{RedisPort: 6379}, atlock.Redis{Address: "127.0.0.1:6379"}},
		"single":  {single, atlock.Redis{Address: "redis.example:6380", Username: "u", Password: "p", DB: 3, TLS: atlock.TLS{Enabled: true}}},
		"IPv6":    {server.UserConfig{RedisHost: "::1", RedisPort: 6379}, atlock.Redis{Address: "[::1]:6379"}},
		"[IPv6]":  {server.UserConfig{RedisHost: "[::1]", RedisPort: 6379}, atlock.Redis{Address: "[::1]:6379"}},
		"cluster": {server.UserConfig{RedisClusterAddresses: "a:1, b:2,", RedisPort: 6379, RedisPassword: "p"}, atlock.Redis{ClusterMode: true, Addresses: []string{"a:1", "b:2"}, Password: "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := defaults(c.user).Locking.Enhanced.Redis; !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			c.user.DataDir, c.user.LockingDBType = t.TempDir(), "boltdb"
			settings, err := loadSettings(writeFile(t, filepath.Join(t.TempDir(), "x.yaml"), hybridFile), c.user, nil)
			if err != nil {
				t.Fatal(err)
			}
			loaded := settings.Locking.Enhanced.Redis
			if (loaded.Address != c.want.Address && !c.want.ClusterMode) || loaded.ClusterMode != c.want.ClusterMode ||
				!slices.Equal(loaded.Addresses, c.want.Addresses) || loaded.Password != c.want.Password || loaded.DB != c.want.DB {
				t.Errorf("loaded %+v", loaded)
			}
		})
	}

	// The file wins.
	single.DataDir, single.LockingDBType = t.TempDir(), "boltdb"
	file := writeFile(t, filepath.Join(t.TempDir(), "x.yaml"),
		"locking: {data_dir: /elsewhere, enhanced: {enabled: true, compatibility_mode: hybrid, redis: {address: 'file:1', password_file: secret}}}")
	settings, err := loadSettings(file, single, nil)
	if err != nil {
		t.Fatal(err)
	}
	redis := settings.Locking.Enhanced.Redis
	if settings.Locking.DataDir != "/elsewhere" || redis.Address != "file:1" || redis.DB != 0 || redis.Password != "" || redis.PasswordFile != "secret" || redis.Username != "u" {
		t.Errorf("got %+v", settings)
	}
}

// With Redis as stock's store, a BoltDB file is from before, and not read.
func TestTheLocalStoreBesideRedis(t *testing.T) {
	onRedis := user(t)
	onRedis.LockingDBType = "redis"
	file := writeFile(t, filepath.Join(t.TempDir(), "x.yaml"), hybridFile)
	for user, want := range map[*server.UserConfig]atlock.BackendKind{&onRedis: "sled", new(user(t)): "boltdb"} {
		settings, err := loadSettings(file, *user, nil)
		if err != nil || settings.Locking.Backend != want {
			t.Errorf("--locking-db-type=%s: backend %s, %v; want %s", user.LockingDBType, settings.Locking.Backend, err, want)
		}
	}
}

// Every setting outside of the blocks enhanced and shadow, which have prefixes of their own, has its variable in the list.
func TestVariablesAreTheLibrarys(t *testing.T) {
	var names []string
	var collect func(prefix string, kind reflect.Type)
	collect = func(prefix string, kind reflect.Type) {
		for field := range kind.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			name := prefix + strings.ToUpper(key)
			switch {
			case key == "enhanced", key == "shadow":
			case field.Type.Kind() == reflect.Struct:
				collect(name+"_", field.Type)
			default:
				names = append(names, name)
			}
		}
	}
	collect("ATLANTIS_LOCKING_", reflect.TypeFor[atlock.Locking]())
	listed := slices.Sorted(slices.Values(variables))
	if slices.Sort(names); !slices.Equal(names, listed) {
		t.Errorf("the library has %v, the list %v", names, listed)
	}
}
