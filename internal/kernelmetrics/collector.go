// Package kernelmetrics reports the kernel path's counters to Prometheus.
package kernelmetrics

import (
	"math/bits"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/metrics"
	"eproxy/internal/pinned"
	"eproxy/internal/reason"
)

// Collector reads the pinned maps at each scrape.
type Collector struct{ maps *pinned.Maps }

var (
	messages = prometheus.NewDesc("eproxy_messages_total", "Routed messages that ended.", metrics.MessagesLabels, nil)
	duration = prometheus.NewDesc("eproxy_message_duration_seconds", "From PUBLISH to the function's response.", metrics.DurationLabels, nil)
	requests = prometheus.NewDesc("eproxy_function_requests_total", "Requests to functions; code 0: no response.", []string{"function", "pod", "code"}, nil)
	inflight = prometheus.NewDesc("eproxy_function_inflight", "Requests in flight.", []string{"function", "pod"}, nil)
	slots    = prometheus.NewDesc("eproxy_slots", "Keep-alive connections to pods.", []string{"function", "pod", "state"}, nil)
	reasons  = prometheus.NewDesc("eproxy_reasons_total", "Packets by hook and reason.", []string{"hook", "reason"}, nil)
	flows    = prometheus.NewDesc("eproxy_flows", "Connections of devices in the kernel path.", []string{"state"}, nil)
	resent   = prometheus.NewDesc("eproxy_retransmissions_total", "What the programs sent again.", []string{"kind"}, nil)
)

// New makes a collector over opened maps.
func New(m *pinned.Maps) *Collector { return &Collector{m} }

// Describe declares nothing: the same names are reported by the fallback as
// well, with other label values.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the maps.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range []func(chan<- prometheus.Metric) error{c.routes, c.pods, c.slots, c.flows, c.reasons} {
		if err := f(ch); err != nil {
			ch <- prometheus.NewInvalidMetric(reasons, err)
		}
	}
}

func counter(d *prometheus.Desc, v uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func gauge(d *prometheus.Desc, v int, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}

func (c *Collector) routes(ch chan<- prometheus.Metric) error {
	rs, err := c.maps.Routes()
	if err != nil {
		return err
	}
	for _, r := range rs {
		for qos, n := range r.Stats.Answered {
			ch <- counter(messages, n, r.Filter, r.Function, "kernel", strconv.Itoa(qos), "delivered")
		}
		// bucket n holds latencies below 2^n nanoseconds
		buckets, sum := map[float64]uint64{}, uint64(0)
		for i, n := range r.Stats.Hist {
			sum += n
			if i >= 15 && i <= 35 {
				buckets[float64(uint64(1)<<i)/1e9] = sum
			}
		}
		ch <- prometheus.MustNewConstHistogram(duration, sum, float64(r.Stats.Nanoseconds)/1e9, buckets, r.Filter, "kernel")
	}
	return nil
}

func (c *Collector) pods(ch chan<- prometheus.Metric) error {
	ps, err := c.maps.Pods()
	if err != nil {
		return err
	}
	for _, p := range ps {
		pod := p.Address.String()
		ch <- counter(requests, p.Answered, p.Function, pod, "2xx")
		ch <- gauge(inflight, p.Concurrency-bits.OnesCount64(p.Idle), p.Function, pod)
	}
	return nil
}

func (c *Collector) slots(ch chan<- prometheus.Metric) error {
	ss, err := c.maps.Slots()
	if err != nil {
		return err
	}
	type key struct{ function, pod, state string }
	n := make(map[key]int)
	for _, s := range ss {
		n[key{s.Pod.Function, s.Pod.Address.String(), s.State}]++
	}
	for k, v := range n {
		ch <- gauge(slots, v, k.function, k.pod, k.state)
	}
	return nil
}

func (c *Collector) flows(ch chan<- prometheus.Metric) error {
	fs, err := c.maps.Flows()
	if err != nil {
		return err
	}
	n := map[string]int{"armed": 0, "open": 0, "closed": 0}
	for _, f := range fs {
		n[f.State]++
	}
	for s, v := range n {
		ch <- gauge(flows, v, s)
	}
	return nil
}

func (c *Collector) reasons(ch chan<- prometheus.Metric) error {
	counts, err := c.maps.Reasons()
	if err != nil {
		return err
	}
	again := map[string]uint64{"reinjected": 0, "puback_resent": 0}
	for h, row := range counts {
		for i, n := range row {
			name := reason.All[i].Name
			if _, ok := again[name]; ok {
				again[name] += n
			}
			if n > 0 {
				ch <- counter(reasons, n, reason.Hooks[h], name)
			}
		}
	}
	for kind, n := range again {
		ch <- counter(resent, n, kind)
	}
	return nil
}
