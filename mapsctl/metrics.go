package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
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

// metricsCommand shows the kernel path's numbers, once or as they change.
func metricsCommand() *cli.Command {
	return &cli.Command{
		Name: "metrics", Usage: "counters under their Prometheus names",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "print what changes, and how fast, until interrupted; with -o json an object a line"},
			&cli.DurationFlag{Name: "interval", Aliases: []string{"i"}, Usage: "between two readings with --watch `TIME`", Value: time.Second},
			&cli.IntFlag{Name: "count", Usage: "end --watch after `N` intervals"},
			output.Flag(), cliutil.BPFFSFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("watch") {
				return watchMetrics(c)
			}
			for _, name := range []string{"interval", "count"} {
				if c.IsSet(name) {
					return cliutil.Usagef("--%s: only with --watch", name)
				}
			}
			return withMaps(c, showMetrics)
		},
	}
}

// metricSample is a number of a metric. Histograms have two, _count and _sum.
type metricSample struct {
	name   string
	labels labelSet
	value  float64
	grows  bool // a counter
}

// metricSamples are the kernel path's numbers as Prometheus would get them.
func metricSamples(m *pinned.Maps) (all []metricSample, err error) {
	reg := prometheus.NewRegistry()
	if err := reg.Register(kernelmetrics.New(m, m, nil, nil)); err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	families, err := reg.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			labels := labelSet{}
			for _, l := range x.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				all = append(all, metricSample{f.GetName() + "_count", labels, float64(x.GetHistogram().GetSampleCount()), true},
					metricSample{f.GetName() + "_sum", labels, x.GetHistogram().GetSampleSum(), true})
			case dto.MetricType_GAUGE:
				all = append(all, metricSample{f.GetName(), labels, x.GetGauge().GetValue(), false})
			default:
				all = append(all, metricSample{f.GetName(), labels, x.GetCounter().GetValue(), true})
			}
		}
	}
	return all, nil
}

// showMetrics prints them.
func showMetrics(m *pinned.Maps) (*output.Rows, error) {
	all, err := metricSamples(m)
	if err != nil {
		return nil, err
	}
	r := &output.Rows{Columns: []string{"name", "labels", "value"}}
	for _, s := range all {
		r.Add(s.name, s.labels, s.value)
	}
	return r, nil
}
