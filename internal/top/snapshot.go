package top

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Snapshot is one reading of the metrics.
type Snapshot struct {
	At       time.Time
	families map[string]*dto.MetricFamily
}

// Read reads metrics in Prometheus' text format.
func Read(r io.Reader, at time.Time) (*Snapshot, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return &Snapshot{At: at, families: families}, nil
}

// Gather reads the metrics of this process.
func Gather(g prometheus.Gatherer, at time.Time) (*Snapshot, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	s := &Snapshot{At: at, families: make(map[string]*dto.MetricFamily, len(families))}
	for _, f := range families {
		s.families[f.GetName()] = f
	}
	return s, nil
}

// series is one metric with its labels.
type series struct {
	labels map[string]string
	value  float64
	hist   *dto.Histogram // nil: it is none
}

// values are those of some of its labels; empty where it has none of that name.
func (s series) values(labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = s.labels[l]
	}
	return out
}

// of is a key for the values of some of its labels.
func (s series) of(labels []string) string { return join(s.values(labels)) }

// join makes one key of labels' values. NUL is in none of them: neither topics nor names nor addresses have any.
func join(values []string) string { return strings.Join(values, "\x00") }

// of are the series of a name; none if there is no such metric.
func (s *Snapshot) of(name string) (out []series) {
	for _, m := range s.families[name].GetMetric() {
		x := series{labels: make(map[string]string), hist: m.GetHistogram()}
		for _, l := range m.GetLabel() {
			x.labels[l.GetName()] = l.GetValue()
		}
		switch {
		case m.GetCounter() != nil:
			x.value = m.GetCounter().GetValue()
		case m.GetGauge() != nil:
			x.value = m.GetGauge().GetValue()
		}
		out = append(out, x)
	}
	return out
}

// buckets are cumulative counts by upper bound, in seconds.
type buckets map[float64]float64

// add adds a histogram's counts, as often as sign says.
func (b buckets) add(h *dto.Histogram, sign float64) {
	for _, x := range h.GetBucket() {
		b[x.GetUpperBound()] += sign * float64(x.GetCumulativeCount())
	}
}
