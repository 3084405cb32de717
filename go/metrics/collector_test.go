package metrics_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/metrics"
)

const grant = `{"Project":{"RepoFullName":"acme/infra","Path":"."},"Pull":{"Num":7},"Workspace":"default"}`

func TestARegistryHasTheMetrics(t *testing.T) {
	locks, err := client.Open(client.Config{Locking: client.Locking{Backend: client.BackendSled, DataDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer locks.Close()
	if _, err := locks.TryLock([]byte(grant)); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewCollector(locks))
	text, err := locks.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	found, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]bool{}
	for _, family := range found {
		families[family.GetName()] = true
		if family.GetHelp() == "" || len(family.GetMetric()) == 0 {
			t.Errorf("%v", family)
		}
	}
	told := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[1] != "TYPE" {
			continue
		}
		name := fields[2]
		if fields[3] == "counter" {
			name += "_total"
		}
		told++
		if !families[name] {
			t.Errorf("the registry has no %s", name)
		}
	}
	if told == 0 || told != len(found) {
		t.Errorf("%d families are told, and the registry has %d", told, len(found))
	}
}

type failing struct{}

func (failing) Metrics() (string, error) { return "", errors.New("gone") }

func TestASourceThatFailsFailsTheCollection(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(failing{}))
	if found, err := registry.Gather(); err == nil || !strings.Contains(err.Error(), "gone") || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

type fixed string

func (f fixed) Metrics() (string, error) { return string(f), nil }

// Values, labels and kinds are those of the text.
func TestTheValuesAreThoseOfTheText(t *testing.T) {
	const text = "# HELP a_b How # many.\n# TYPE a_b counter\na_b_total{z=\"1\",a=\"x y\"} 3\n# HELP g Now.\n# TYPE g gauge\ng 2.5\n# EOF\n"
	const wanted = "# HELP a_b_total How # many.\n# TYPE a_b_total counter\na_b_total{a=\"x y\",z=\"1\"} 3\n# HELP g Now.\n# TYPE g gauge\ng 2.5\n"
	if err := testutil.CollectAndCompare(metrics.NewCollector(fixed(text)), strings.NewReader(wanted)); err != nil {
		t.Error(err)
	}
}
