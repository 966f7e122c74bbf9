package spans

import "github.com/prometheus/client_golang/prometheus"

var spansTotal = prometheus.NewDesc("eproxy_spans_total", "Spans of sampled messages, by what became of them.", []string{"result"}, nil)

// Describe says what Collect reports.
func (e *Exporter) Describe(ch chan<- *prometheus.Desc) { ch <- spansTotal }

// Collect reports what became of spans.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	for result, n := range map[string]uint64{"sent": e.sent.Load(), "dropped": e.droppedSoFar(), "failed": e.failed.Load(), "rejected": e.rejected.Load()} {
		ch <- prometheus.MustNewConstMetric(spansTotal, prometheus.CounterValue, float64(n), result)
	}
}

// droppedSoFar are those that found no room, here or in the programs.
func (e *Exporter) droppedSoFar() uint64 {
	n := e.dropped.Load()
	if e.lost != nil {
		n += e.lost()
	}
	return n
}
