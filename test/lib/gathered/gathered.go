// Package gathered reads what a collector of metrics reports.
package gathered

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Values are a collector's counters and gauges, each by its name and the values of its labels, with spaces between.
// What a scrape would not take fails the test.
func Values(t testing.TB, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}
