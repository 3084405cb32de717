package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// metricsHandler answers with the database's metrics and with those of the default registry: Go's, the process's and, where its
// configuration asks for Prometheus, Atlantis's own. If the database does not answer, the others are there all the same.
func metricsHandler(database Database) http.Handler {
	all := prometheus.Gatherers{prometheus.DefaultGatherer, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		text, err := database.Metrics()
		if err != nil {
			return nil, fmt.Errorf("reading the locking layer's metrics: %w", err)
		}
		return families(text)
	})}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// families reads the library's OpenMetrics text, sorted by name as a Gatherer must.
func families(text string) ([]*dto.MetricFamily, error) {
	byName, err := new(expfmt.TextParser).TextToMetricFamilies(strings.NewReader(prometheusText(text)))
	if err != nil {
		return nil, fmt.Errorf("reading the locking layer's metrics: %w", err)
	}
	sorted := make([]*dto.MetricFamily, 0, len(byName))
	for _, family := range byName {
		sorted = append(sorted, family)
	}
	slices.SortFunc(sorted, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return sorted, nil
}

// prometheusText turns OpenMetrics text into Prometheus's older one, which Atlantis's registry speaks: there, a counter's family is
// named as its samples are, with _total.
func prometheusText(openMetrics string) string {
	lines := strings.SplitAfter(openMetrics, "\n")
	counters := map[string]bool{}
	for _, line := range lines {
		if name, found := strings.CutPrefix(line, "# TYPE "); found {
			if name, found = strings.CutSuffix(name, " counter\n"); found {
				counters[name] = true
			}
		}
	}
	var text strings.Builder
	for _, line := range lines {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) == 4 && fields[0] == "#" && counters[fields[2]] {
			fields[2] += "_total"
		}
		text.WriteString(strings.Join(fields, " "))
	}
	return text.String()
}
