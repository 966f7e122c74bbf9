package top

import (
	"fmt"
	"io"
	"time"

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

// series is one metric with its labels.
type series struct {
	labels map[string]string
	value  float64
	hist   *dto.Histogram // nil: it is none
}

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
