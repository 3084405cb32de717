package web_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/redistest"
	"github.com/atlock/atlock/go/web"
)

const monitoringFolder = "../../deploy/monitoring"

// Every metric that dashboard and alert rules name is one that a running server has.
func TestDashboardAndRulesNameRealMetrics(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	folder := t.TempDir()
	database := open(t, atlock.Config{Locking: atlock.Locking{
		Backend: "sled", DataDir: filepath.Join(folder, "locks"), Audit: atlock.Audit{File: filepath.Join(folder, "audit")},
		Shadow: atlock.Shadow{Store: atlock.ShadowSled, DataDir: filepath.Join(folder, "shadow")},
		Enhanced: atlock.Enhanced{
			Enabled: true, CompatibilityMode: "hybrid", Redis: atlock.Redis{Address: redis.Addr, Timeouts: shortTimeouts},
			PriorityQueue:     atlock.PriorityQueue{Enabled: true},
			DeadlockDetection: atlock.DeadlockDetection{Enabled: true, Confirm: atlock.Duration(100 * time.Millisecond)},
		},
	}})
	// So do those of circles, and of locks that are kept for somebody.
	circle(t, database)
	if _, err := database.UnlockByPull("acme/infra", 1); err != nil {
		t.Fatal(err)
	}
	// An error's series begins with the first error.
	if _, _, err := database.TryLock(newLock("", "", 0)); err == nil {
		t.Fatal("a lock of no repository was granted")
	}
	exported := map[string]bool{}
	for _, line := range strings.Split(must(t, serveAtlantis(t, database), web.MetricsPath), "\n") {
		if name, _, found := strings.Cut(line, "{"); found {
			exported[name] = true
		} else if name, _, found := strings.Cut(line, " "); found {
			exported[name] = true
		}
	}
	// Package handover counts these.
	for metric, file := range map[string]string{"atlock_replans_total": "replanner.go", "atlock_apply_guard_total": "guard.go"} {
		counter, err := os.ReadFile(filepath.Join("../handover", file))
		if err != nil {
			t.Fatal(err)
		}
		exported[metric] = strings.Contains(string(counter), `Name: "`+metric+`"`)
	}
	// A migration that ends leaves this one in a file.
	const ofCommand = "atlock_migration_failed"
	command, err := os.ReadFile("../../src/migration_command/metrics.rs")
	if err != nil {
		t.Fatal(err)
	}
	exported[ofCommand] = strings.Contains(string(command), ofCommand)
	name := regexp.MustCompile(`\batlock_[a-z_]+`)
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(monitoringFolder, file))
		if err != nil {
			t.Fatal(err)
		}
		named := name.FindAllString(string(text), -1)
		if len(named) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, metric := range named {
			if !exported[metric] {
				t.Errorf("%s names %s, which is not exported", file, metric)
			}
		}
	}
}

// The dashboard can be imported anywhere: each panel asks the data source that is chosen on it.
func TestTheDashboardIsImportable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(monitoringFolder, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ Type, UID string }
	var dashboard struct {
		Title, UID string
		Templating struct{ List []struct{ Name, Type string } }
		Panels     []struct {
			ID         int
			Title      string
			Datasource source
			GridPos    struct{ X, Y, W, H int }
			Targets    []struct {
				Datasource source
				Expr       string
			}
		}
	}
	decode(t, string(text), &dashboard)
	if variables := dashboard.Templating.List; len(variables) == 0 || variables[0].Name != "datasource" || variables[0].Type != "datasource" {
		t.Errorf("no data source can be chosen: %+v", variables)
	}
	ids, cells, chosen := map[int]bool{}, map[[2]int]string{}, source{"prometheus", "${datasource}"}
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.Datasource != chosen || len(panel.Targets) == 0 {
			t.Errorf("panel %q is wrong", panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			if target.Datasource != chosen || !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("panel %q asks %s", panel.Title, target.Expr)
			}
		}
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or outside", panel.Title, other)
				}
				cells[[2]int{x, y}] = panel.Title
			}
		}
	}
	if !json.Valid(text) {
		t.Error("no JSON")
	}
}

// The rules are valid, and fire when they should: by promtool, of Prometheus.
func TestAlertRules(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is not on PATH; scripts/prepare installs it (Debian: apt-get install prometheus)")
	}
	for _, arguments := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml", "alerts_day_test.yaml"}} {
		command := exec.CommandContext(t.Context(), "promtool", arguments...)
		command.Dir = monitoringFolder
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", arguments, err, output)
		}
	}
}

// What is served is what Prometheus itself reads, without a complaint of its linter.
func TestPromtoolReadsTheMetrics(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is not on PATH; scripts/prepare installs it (Debian: apt-get install prometheus)")
	}
	text := must(t, serveAtlantis(t, openHybrid(t, redistest.Start(t, redistest.Options{}).Addr)), web.MetricsPath)
	command := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	command.Stdin = strings.NewReader(text)
	// It complains of names of Go's own metrics.
	output, err := command.CombinedOutput()
	if strings.Contains(string(output), "atlock_") || err != nil && !strings.Contains(string(output), "go_") {
		t.Errorf("promtool: %v\n%s", err, output)
	}
}
