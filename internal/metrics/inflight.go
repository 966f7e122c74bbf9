package metrics

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// InFlight is eproxy_function_inflight.
var InFlight = prometheus.NewDesc("eproxy_function_inflight", "Requests in flight.", []string{"function", "pod"}, nil)

// InFlightSource tells the requests in flight to each pod that the kernel path does
// not use.
type InFlightSource interface {
	EachInFlight(each func(function string, pod netip.AddrPort, n int))
}

// inFlight collects where there is no kernel path.
type inFlight struct{ source InFlightSource }

// NewInFlight collects the requests in flight to pods that the kernel path does not
// use. Where there are others, kernelmetrics reports both together.
func NewInFlight(source InFlightSource) prometheus.Collector { return inFlight{source} }

// Describe says what Collect reports.
func (c inFlight) Describe(ch chan<- *prometheus.Desc) { ch <- InFlight }

// Collect asks the source.
func (c inFlight) Collect(ch chan<- prometheus.Metric) {
	c.source.EachInFlight(func(function string, pod netip.AddrPort, n int) {
		ch <- prometheus.MustNewConstMetric(InFlight, prometheus.GaugeValue, float64(n), function, pod.String())
	})
}
