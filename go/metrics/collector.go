// Package metrics has the locking layer's metrics for a registry of Prometheus's client library, in a program of your own. The linked server
// has them on its page /metrics already (package web), and whoever wants the text alone calls Metrics of what is open.
//
// Who needs it: a program of your own that has a registry.
//
//	registry.MustRegister(metrics.NewCollector(database)) // an *atlock.Database, or a *client.Client
package metrics

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Source is what has metrics: an *atlock.Database or a *client.Client.
type Source interface {
	// Metrics reads them, as the OpenMetrics text of docs/03-configuration.md.
	Metrics() (string, error)
}

// NewCollector returns a collector of all that the source tells. It may be used from any goroutine. It asks at each collection and waits for
// no store; a source that fails fails the collection, with its error. Which metrics there are depends on mode and settings, so the registry
// is told of none before.
func NewCollector(source Source) prometheus.Collector { return collector{source} }

type collector struct{ source Source }

// Describe tells nothing: prometheus calls that unchecked.
func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	families, err := c.families()
	if err != nil {
		err = fmt.Errorf("reading the locking layer's metrics: %w", err)
		metrics <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	for name, family := range families {
		for _, told := range family.GetMetric() {
			labels := make([]string, 0, len(told.GetLabel()))
			for _, label := range told.GetLabel() {
				labels = append(labels, label.GetName())
			}
			metrics <- metric{prometheus.NewDesc(name, family.GetHelp(), labels, nil), told}
		}
	}
}

func (c collector) families() (map[string]*dto.MetricFamily, error) {
	text, err := c.source.Metrics()
	if err != nil {
		return nil, err
	}
	return new(expfmt.TextParser).TextToMetricFamilies(strings.NewReader(prometheusText(text)))
}

// metric is one that the source told, with its values.
type metric struct {
	desc *prometheus.Desc
	told *dto.Metric
}

func (m metric) Desc() *prometheus.Desc { return m.desc }

func (m metric) Write(out *dto.Metric) error {
	out.Label = slices.Clone(m.told.Label)
	slices.SortFunc(out.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	out.Counter, out.Gauge, out.Histogram, out.Summary, out.Untyped = m.told.Counter, m.told.Gauge, m.told.Histogram, m.told.Summary, m.told.Untyped
	return nil
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
