package atlock_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
)

func TestOpenNeedsAStore(t *testing.T) {
	_, err := atlock.Open(atlock.Config{})
	if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "WithLegacy") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = atlock.Open(atlock.Config{Locking: atlock.Locking{Backend: "sled", DataDir: file}})
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
				status.FallbackActive || status.CircuitState != "disabled" || status.Conflicts != nil {
				t.Errorf("status %+v, %v", status, err)
			}
			health, err := database.Health()
			if err != nil || health.State != "healthy" || health.CircuitState != "disabled" || health.Enhanced != nil ||
				health.Legacy == nil || !health.Legacy.Healthy || health.Legacy.ResponseTimeMS <= 0 || !health.Overall ||
				!regexp.MustCompile(`^[0-9.]+ms$`).MatchString(health.Legacy.ResponseTime) || health.Legacy.Error != "" {
				t.Errorf("health %+v, %v", health, err)
			}
			if err := database.Close(); err != nil {
				t.Fatal(err)
			}
			health, err = database.Health()
			if err != nil || health.Overall || health.State != "unhealthy" || health.Legacy.Healthy || !strings.Contains(health.Legacy.Error, "closed") {
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
	if err != nil || health.State != "degraded" || health.CircuitState == "closed" || health.Enhanced.Healthy ||
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

// A mode that was set and not enabled may have been forgotten.
func TestModeThatIsNotEnabled(t *testing.T) {
	for _, backend := range []atlock.BackendKind{"boltdb", "sled"} {
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

// Atlantis's own store has no queue: who asks for one is told so, and a rollback begins all the same.
func TestQueueOnAtlantisOwnStore(t *testing.T) {
	waiting := atlock.Enhanced{
		PriorityQueue: atlock.PriorityQueue{Enabled: true}, DeadlockDetection: atlock.DeadlockDetection{Enabled: true},
	}
	_, err := atlock.Open(atlock.Config{Locking: atlock.Locking{Enhanced: waiting}}, atlock.WithBoltDB(t.TempDir()))
	if !errors.Is(err, atlock.ErrInvalidConfig) || !strings.Contains(err.Error(), "locking.backend: sled") {
		t.Errorf("strict: %v", err)
	}
	waiting.CompatibilityMode = atlock.ModeHybrid
	rollback := atlock.Config{Locking: atlock.Locking{DataDir: t.TempDir(), Enhanced: waiting}}
	database, err := atlock.Open(rollback, atlock.WithBoltDB(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	status, err := database.Status()
	if err != nil || len(status.Warnings) != 3 || !strings.Contains(status.Warnings[1], "has no queue: nobody waits in order") {
		t.Errorf("a rollback: warnings %q, %v", status.Warnings, err)
	}
}
