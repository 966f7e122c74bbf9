// Package kernelmetrics reports the kernel path's counters to Prometheus.
package kernelmetrics

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"eproxy/internal/counters"
	"eproxy/internal/metrics"
	"eproxy/internal/pinned"
	"eproxy/internal/reason"
)

// Source knows the counts by route and by pod.
type Source interface {
	Totals() (counters.Totals, error)
}

// Collector reads the maps at each scrape.
type Collector struct {
	maps     *pinned.Maps
	source   Source
	requests prometheus.Collector
	left     metrics.InFlightSource
}

var (
	messages = prometheus.NewDesc(metrics.MessagesName, metrics.MessagesHelp, metrics.MessagesLabels, nil)
	duration = prometheus.NewDesc(metrics.DurationName, metrics.DurationHelp, metrics.DurationLabels, nil)
	requests = prometheus.NewDesc(metrics.RequestsName, metrics.RequestsHelp, metrics.RequestsLabels, nil)
	slots    = prometheus.NewDesc("eproxy_slots", "Keep-alive connections to pods.", []string{"function", "pod", "state"}, nil)
	reasons  = prometheus.NewDesc("eproxy_reasons_total", "Packets by hook and reason.", []string{"hook", "reason"}, nil)
	pods     = prometheus.NewDesc("eproxy_pods", "Pods by where they are in their life.", []string{"function", "state"}, nil)
	flows    = prometheus.NewDesc("eproxy_flows", "Connections of devices in the kernel path.", []string{"state"}, nil)
	runs     = prometheus.NewDesc("eproxy_program_runs_total", "Runs of each BPF program, while the kernel measures them.", []string{"program"}, nil)
	cpu      = prometheus.NewDesc("eproxy_program_seconds_total", "Processor time of each BPF program, while the kernel measures it.", []string{"program"}, nil)
	memory   = prometheus.NewDesc("eproxy_map_bytes", "Memory of the BPF map.", []string{"map"}, nil)
	resent   = prometheus.NewDesc("eproxy_retransmissions_total", "What the programs sent again.", []string{"kind"}, nil)
)

// New makes a collector over opened maps. source knows the counts by route and
// pod: the maps, or a loader that also remembers what they no longer hold.
// others, if any, are the requests that userspace has sent: they have the same
// label sets, and each label set may be reported but once. left, if any, tells the
// requests in flight to pods that the maps do not have.
func New(m *pinned.Maps, source Source, others prometheus.Collector, left metrics.InFlightSource) *Collector {
	return &Collector{m, source, others, left}
}

// Describe declares nothing: the same names are reported by the fallback as
// well, with other label values.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the maps.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range []func(chan<- prometheus.Metric) error{c.totals, c.loads, c.flows, c.reasons, c.programs, c.memory} {
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

// request is a label set of eproxy_function_requests_total.
type request struct{ function, pod, code string }

func (c *Collector) totals(ch chan<- prometheus.Metric) error {
	t, err := c.source.Totals()
	if err != nil {
		return err
	}
	byFilter := make(map[string]counters.RouteStats)
	for l, s := range t.Routes {
		for qos, n := range s.Answered {
			ch <- counter(messages, n, l.Filter, l.Function, "kernel", strconv.Itoa(qos), "delivered")
		}
		f := byFilter[l.Filter]
		f.Add(s)
		byFilter[l.Filter] = f
	}
	for filter, s := range byFilter {
		ch <- histogram(filter, s)
	}
	sent := make(map[request]uint64)
	for l, s := range t.Pods {
		for i, n := range s {
			if n > 0 {
				sent[request{l.Function, l.Address.String(), strconv.Itoa(counters.FirstStatus + i)}] += n
			}
		}
	}
	if err := add(sent, c.requests); err != nil {
		return err
	}
	for l, n := range sent {
		ch <- counter(requests, n, l.function, l.pod, l.code)
	}
	return nil
}

// histogram is a route's latencies. Bucket n of the programs' holds those below
// 2^n nanoseconds; what lies beyond the first and the last bound is in the
// neighbouring one.
func histogram(filter string, s counters.RouteStats) prometheus.Metric {
	buckets, sum := make(map[float64]uint64), uint64(0)
	for i, n := range s.Hist {
		sum += n
		if i >= metrics.FirstBucket && i <= metrics.LastBucket {
			buckets[metrics.Bound(i)] = sum
		}
	}
	return prometheus.MustNewConstHistogram(duration, sum, float64(s.Nanoseconds)/1e9, buckets, filter, "kernel")
}

// add adds what another collector of requests has counted.
func add(sent map[request]uint64, others prometheus.Collector) error {
	if others == nil {
		return nil
	}
	ch := make(chan prometheus.Metric)
	go func() {
		others.Collect(ch)
		close(ch)
	}()
	var failed error
	for m := range ch {
		var x dto.Metric
		if err := m.Write(&x); err != nil {
			failed = fmt.Errorf("read counter: %w", err)
			continue
		}
		l := make(map[string]string)
		for _, p := range x.GetLabel() {
			l[p.GetName()] = p.GetValue()
		}
		sent[request{l["function"], l["pod"], l["code"]}] += uint64(x.GetCounter().GetValue())
	}
	return failed
}

// loads are what pods and functions have to do.
func (c *Collector) loads(ch chan<- prometheus.Metric) error {
	l, err := c.maps.Loads()
	if err != nil {
		return err
	}
	c.slots(ch, l.Served)
	lives(ch, &l)
	return nil
}

// slots counts each pod's connections by state, and its requests in flight.
func (c *Collector) slots(ch chan<- prometheus.Metric, served []pinned.PodLoad) {
	type pod struct{ function, address string }
	n, busy := make(map[pod]map[string]int), make(map[pod]int)
	for _, s := range served {
		p := pod{s.Function, s.Address.String()}
		if n[p] == nil {
			n[p] = make(map[string]int)
		}
		for state, v := range s.Slots {
			n[p][state] += v
		}
		busy[p] += s.InFlight
	}
	for p, states := range n {
		for state, v := range states {
			ch <- gauge(slots, v, p.function, p.address, state)
		}
	}
	if c.left != nil {
		c.left.EachInFlight(func(function string, address netip.AddrPort, v int) {
			p := pod{function, address.String()}
			if _, served := busy[p]; !served { // else it was given slots since
				busy[p] = v
			}
		})
	}
	for p, v := range busy {
		ch <- gauge(metrics.InFlight, v, p.function, p.address)
	}
}

// lives counts each function's pods by state, a state that none is in has a series, too; and its messages that
// wait for them.
func lives(ch chan<- prometheus.Metric, l *pinned.Loads) {
	type series struct{ function, state string }
	n := make(map[series]int)
	for _, p := range l.Served {
		n[series{p.Function, p.State}]++
	}
	for _, p := range l.Left {
		n[series{p.Function, p.State}]++
	}
	for _, f := range l.Functions {
		ch <- gauge(metrics.Queue, f.Waiting, f.Name, "kernel")
		for _, state := range pinned.PodStates {
			if state != "" {
				ch <- gauge(pods, n[series{f.Name, state}], f.Name, state)
			}
		}
	}
}

func (c *Collector) flows(ch chan<- prometheus.Metric) error {
	fs, err := c.maps.Flows()
	if err != nil {
		return err
	}
	n := make(map[string]int)
	for _, s := range pinned.FlowStates { // a series is there even where there is none
		n[s] = 0
	}
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

// programs are what the programs cost.
func (c *Collector) programs(ch chan<- prometheus.Metric) error {
	ps, err := c.maps.Programs()
	if err != nil {
		return err
	}
	for _, p := range ps {
		ch <- counter(runs, p.Runs, p.Name)
		ch <- prometheus.MustNewConstMetric(cpu, prometheus.CounterValue, p.Time.Seconds(), p.Name)
	}
	return nil
}

func (c *Collector) memory(ch chan<- prometheus.Metric) error {
	ms, err := c.maps.Memory()
	if err != nil {
		return err
	}
	for _, m := range ms {
		ch <- prometheus.MustNewConstMetric(memory, prometheus.GaugeValue, float64(m.Bytes), m.Name)
	}
	return nil
}
