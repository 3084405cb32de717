package web

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/atlock/atlock/go/metrics"
)

// metricsFormat names the format that a request wants.
func metricsFormat(r *http.Request) string { return string(expfmt.Negotiate(r.Header)) }

// metricsHandler answers with the database's metrics and with those of the default registry: Go's, the process's and, where its
// configuration asks for Prometheus, Atlantis's own. If the database does not answer, the others are there all the same.
func metricsHandler(database Database) http.Handler {
	locks := prometheus.NewRegistry()
	locks.MustRegister(metrics.NewCollector(database))
	return promhttp.HandlerFor(prometheus.Gatherers{prometheus.DefaultGatherer, locks}, promhttp.HandlerOpts{
		ErrorHandling:      promhttp.ContinueOnError,
		DisableCompression: true, // all who want one format get one text
	})
}
