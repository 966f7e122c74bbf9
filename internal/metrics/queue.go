package metrics

import "github.com/prometheus/client_golang/prometheus"

// Queue is eproxy_function_queue_messages.
var Queue = prometheus.NewDesc("eproxy_function_queue_messages", "Messages in the function's queue.", []string{"function", "path"}, nil)

// queueLimit is how many messages a function's queue takes, on both paths together.
var queueLimit = prometheus.NewDesc("eproxy_function_queue_limit_messages", "Messages that the function's queue has room for.", []string{"function"}, nil)

// QueueSource tells how many messages userspace holds for each function, and how many its queue has room for.
type QueueSource interface {
	EachQueued(each func(function string, messages, limit int))
}

// queued collects what userspace holds.
type queued struct{ source QueueSource }

// NewQueued collects what userspace holds for the functions; what waits in the kernel
// kernelmetrics reports.
func NewQueued(source QueueSource) prometheus.Collector { return queued{source} }

// Describe says what Collect reports.
func (c queued) Describe(ch chan<- *prometheus.Desc) {
	ch <- Queue
	ch <- queueLimit
}

// Collect asks the source.
func (c queued) Collect(ch chan<- prometheus.Metric) {
	c.source.EachQueued(func(function string, n, limit int) {
		ch <- prometheus.MustNewConstMetric(queueLimit, prometheus.GaugeValue, float64(limit), function)
		ch <- prometheus.MustNewConstMetric(Queue, prometheus.GaugeValue, float64(n), function, "fallback")
	})
}
