package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/buildinfo"
)

// build is the metric that says which build this is.
func build() prometheus.Collector {
	i := buildinfo.Get()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "eproxy_build_info", Help: "The build that runs; always 1."}, []string{"version", "revision", "goversion"})
	g.WithLabelValues(i.Version, i.Revision, i.GoVersion).Set(1)
	return g
}
