package atlock

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// samples reads a text as Prometheus does: every sample of a counter or gauge, by its name and the values of its labels.
func samples(t *testing.T, text string) map[string]float64 {
	t.Helper()
	if !strings.HasSuffix(text, "\n# EOF\n") || strings.Count(text, "# EOF") != 1 {
		t.Fatalf("no end line at the end:\n%s", text)
	}
	families, err := new(expfmt.TextParser).TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	found := map[string]float64{}
	for name, family := range families {
		if !strings.HasSuffix(name, "_total") && !strings.HasSuffix(name, "_seconds") && name != "atlock_info" && name != "atlock_warnings" {
			t.Errorf("the name %s does not tell its unit", name)
		}
		for _, metric := range family.Metric {
			key := name
			for _, label := range metric.Label {
				key += " " + label.GetValue()
			}
			if metric.Histogram != nil {
				found[key] = float64(metric.Histogram.GetSampleCount())
			} else {
				found[key] = metric.Untyped.GetValue() + metric.Gauge.GetValue() + metric.Counter.GetValue()
			}
		}
	}
	return found
}

// The library, and Atlantis's own store called directly, count alike.
func TestMetrics(t *testing.T) {
	const secret = "s3cr3t-token"
	legacy, err := boltdb.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]struct {
		config  Config
		options []Option
	}{
		"sled":   {config: Config{Locking: Locking{Backend: "sled", DataDir: t.TempDir()}}},
		"boltdb": {options: []Option{WithLegacy(legacy)}},
	}
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			database, err := Open(c.config, c.options...)
			if err != nil {
				t.Fatal(err)
			}
			defer database.Close()
			lock := models.ProjectLock{Project: models.NewProject("acme/infra", ".", ""), Workspace: "default"}
			lock.Pull.BaseRepo.CloneURL = "https://x:" + secret + "@example.com/acme/infra.git"
			for range 2 {
				_, _, err := database.TryLock(lock)
				_, lockErr := database.LockCommand(command.Apply, lock.Time)
				if err != nil || lockErr != nil && !strings.HasSuffix(lockErr.Error(), ErrLockExists.Error()) {
					t.Fatal(err, lockErr)
				}
				unlockErr := database.UnlockCommand(command.Plan)
				if unlockErr == nil {
					t.Fatal("there was no such lock")
				}
			}
			text, err := database.Metrics()
			if err != nil || strings.Contains(text, secret) {
				t.Fatal(err, text)
			}
			found := samples(t, text)
			for series, want := range map[string]float64{
				"atlock_operations_total try_lock legacy ok":            1,
				"atlock_operations_total try_lock legacy refused":       1,
				"atlock_operations_total try_lock legacy error":         0,
				"atlock_operations_total lock_command legacy ok":        1,
				"atlock_operations_total lock_command legacy refused":   1,
				"atlock_operations_total unlock_command legacy ok":      2,
				"atlock_operations_total swap_pull_status legacy error": 0,
			} {
				if got, there := found[series]; !there || got != want {
					t.Errorf("%s is %v (there: %t), want %v", series, got, there, want)
				}
			}
			status, err := database.Status()
			if err != nil || status.LegacyOps != 6 || status.Errors != 0 {
				t.Errorf("status %+v, %v", status, err)
			}
		})
	}
}

// failing is a database that fails.
type failing struct{ db.Database }

func (failing) Ping() error  { return errors.New("the disk is gone") }
func (failing) Close() error { return nil }

func TestMetricsOfErrors(t *testing.T) {
	database, err := Open(Config{}, WithLegacy(failing{}))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	_ = database.Ping()
	text, err := database.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	found := samples(t, text)
	if found["atlock_operations_total ping legacy error"] != 1 || found["atlock_errors_total legacy host_store"] != 1 {
		t.Errorf("got %v", found)
	}
}
