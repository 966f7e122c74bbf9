package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"eproxy/internal/kernelmetrics"
	"eproxy/internal/output"
	"eproxy/internal/pinned"
)

// labelSet is a metric's labels: an object in JSON and YAML, in a table as in
// Prometheus' text format.
type labelSet map[string]string

// String is the labels by name.
func (l labelSet) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, fmt.Sprintf("%s=%q", name, l[name]))
	}
	return strings.Join(parts, ",")
}

// showMetrics prints the kernel path's numbers as Prometheus would get them.
// Histograms appear as _count and _sum.
func showMetrics(m *pinned.Maps) (*output.Rows, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(kernelmetrics.New(m, m, nil, nil))
	families, err := reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	r := &output.Rows{Columns: []string{"name", "labels", "value"}}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			labels := labelSet{}
			for _, l := range x.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				r.Add(f.GetName()+"_count", labels, x.GetHistogram().GetSampleCount())
				r.Add(f.GetName()+"_sum", labels, x.GetHistogram().GetSampleSum())
			case dto.MetricType_GAUGE:
				r.Add(f.GetName(), labels, x.GetGauge().GetValue())
			default:
				r.Add(f.GetName(), labels, x.GetCounter().GetValue())
			}
		}
	}
	return r, nil
}
