package observe

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/bpf/observer"
	"eproxy/internal/metrics"
	"eproxy/internal/traffic"
)

var (
	podLabels   = []string{"function", "pod"}
	requests    = desc("eproxy_http_requests_total", "HTTP requests to pods, whoever sent them.")
	responses   = desc("eproxy_http_responses_total", "HTTP responses of pods.", "class")
	unanswered  = desc("eproxy_http_unanswered_total", "Requests whose connection ended before their response did.")
	unknown     = desc("eproxy_http_unknown_total", "Requests whose connection could not be followed to their response.")
	untimed     = desc("eproxy_http_untimed_total", "Responses of which it is not known when their request was sent.")
	sizes       = desc("eproxy_http_bytes_total", "TCP payload, each byte once.", "direction")
	connections = desc("eproxy_http_connections_total", "Connections by what they carry.", "protocol")
	unfollowed  = desc("eproxy_http_unfollowed_total", "Connections that could not be followed any more.", "reason")
	inFlight    = desc("eproxy_http_inflight", "Requests in flight that were seen on the wire.")
	peak        = desc("eproxy_http_inflight_peak", "Most of them at a time.")
	integral    = desc("eproxy_http_inflight_seconds_total", "Requests in flight over time: the integral.")
	took        = desc("eproxy_http_request_duration_seconds", "From a request's first byte to its response's last one.")
	firstByte   = desc("eproxy_http_first_byte_seconds", "From a request's first byte to the first one of its final response.")
	isObserved  = desc("eproxy_http_observed", "Whether the pod's HTTP can be seen.")
	following   = prometheus.NewDesc("eproxy_http_followed", "Connections to pods that are known.", nil, nil)

	classes   = []string{"", "1xx", "2xx", "3xx", "4xx", "5xx"}
	protocols = []string{"", "http1", "http2", "tls", "upgraded", "other"}
	reasons   = []string{"gap", "malformed", "unasked", "depth", "lines", "joined", "full"}
)

func desc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append(podLabels[:len(podLabels):len(podLabels)], more...), nil)
}

// Describe sends what Collect reports.
func (*Observer) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requests, responses, unanswered, unknown, untimed, sizes, connections, unfollowed, inFlight,
		peak, integral, took, firstByte, isObserved, following} {
		ch <- d
	}
}

// Collect reads the maps.
func (o *Observer) Collect(ch chan<- prometheus.Metric) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(following, prometheus.GaugeValue, float64(o.followed))
	for _, p := range o.pods {
		if err := o.collect(ch, p); err != nil {
			ch <- prometheus.NewInvalidMetric(requests, err)
		}
	}
}

// collect reports one pod; o.mu is held.
func (o *Observer) collect(ch chan<- prometheus.Metric, p *pod) error {
	c, err := o.counts(p)
	if err != nil {
		return err
	}
	f, err := o.flight(p, &c)
	if err != nil {
		return err
	}
	labels := func(more ...string) []string { return append([]string{p.functions, p.address.String()}, more...) }
	count := func(d *prometheus.Desc, v uint64, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels(more...)...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels()...)
	}
	count(requests, c.Requests)
	for i, name := range classes[1:] {
		count(responses, c.Responses[1+i], name)
	}
	count(unanswered, c.Unanswered)
	count(unknown, c.Unknown)
	count(untimed, c.Untimed)
	count(sizes, c.RequestBytes, "request")
	count(sizes, c.ResponseBytes, "response")
	for i, name := range protocols[1:] {
		count(connections, c.Protocols[1+i], name)
	}
	for i, name := range reasons {
		count(unfollowed, c.Unfollowed[i], name)
	}
	gauge(inFlight, float64(f.now))
	gauge(peak, float64(c.Peak))
	ch <- prometheus.MustNewConstMetric(integral, prometheus.CounterValue, float64(f.all)/1e9, labels()...)
	ch <- histogram(took, c.Took[:], c.TookNs, labels())
	ch <- histogram(firstByte, c.First[:], c.FirstNs, labels())
	seen := 0.0
	if p.ifname != "" {
		seen = 1
	}
	gauge(isObserved, seen)
	return nil
}

// counts are a pod's, of all processors.
func (o *Observer) counts(p *pod) (sum observer.ObserveObserveCounts, err error) {
	var each []observer.ObserveObserveCounts
	if err := o.objs.Observed.Lookup(p.index, &each); err != nil {
		return sum, fmt.Errorf("read the counters of pod %s: %w", p.address, err)
	}
	for i := range each {
		add(&sum, &each[i])
	}
	return sum, nil
}

// flown is an integral of requests in flight: the programs know its low bits only.
type flown struct {
	low uint64 // when it was last read
	sum uint64 // nanoseconds
}

// until is the integral with what came since it was read last.
func (f *flown) until(low uint64) uint64 {
	if more := observer.Since(f.low, low); more > 0 {
		f.low, f.sum = low, f.sum+more
	}
	return f.sum
}

// flight is what of a pod is in flight, with the integrals until now, in nanoseconds, also of what was put in for it.
type flight struct {
	now    int32
	all    uint64
	marked [observer.ObserveObserveMarkMARK_COUNT - 1]uint64
}

// flight reads what is in flight to a pod that has counted so much; o.mu is held.
func (o *Observer) flight(p *pod, c *observer.ObserveObserveCounts) (f flight, err error) {
	var words observer.ObserveObserveFlight
	if err := o.objs.ObservedFlight.Lookup(p.index, &words); err != nil {
		return f, fmt.Errorf("read what is in flight to pod %s: %w", p.address, err)
	}
	x := words.At(monotonic()) // of later than the words
	f.now = x.All.Now
	f.all = p.flown[0].until(x.All.Integral) + c.OwnNs
	for i, m := range x.Marked {
		f.marked[i] = p.flown[1+i].until(m.Integral)
	}
	f.marked[observer.ObserveObserveMarkMARK_OWN-1] = c.OwnNs
	return f, nil
}

// HTTP is that of a pod until now; false if it cannot be observed.
func (o *Observer) HTTP(address netip.AddrPort) (h traffic.HTTP, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pods[address]
	if p == nil || p.ifname == "" {
		return h, false
	}
	c, err := o.counts(p)
	if err != nil {
		return h, false
	}
	f, err := o.flight(p, &c)
	if err != nil {
		return h, false
	}
	marked := func(m observer.ObserveObserveMark) traffic.Sum {
		return traffic.Sum{Arrived: int64(c.Marked[m-1]), Integral: time.Duration(f.marked[m-1])}
	}
	return traffic.HTTP{
		All:    traffic.Sum{Arrived: int64(c.Requests), Integral: time.Duration(f.all)},
		Probes: marked(observer.ObserveObserveMarkMARK_PROBE), Proxied: marked(observer.ObserveObserveMarkMARK_PROXIED),
		Own: marked(observer.ObserveObserveMarkMARK_OWN),
	}, true
}

// Interface is the one that leads to an observed pod; empty: none is known.
func (o *Observer) Interface(address netip.AddrPort) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.pods[address]; p != nil {
		return p.ifname
	}
	return ""
}

// add adds what one processor has counted.
func add(sum, c *observer.ObserveObserveCounts) {
	sum.Requests += c.Requests
	sum.Unanswered += c.Unanswered
	sum.Unknown += c.Unknown
	sum.Untimed += c.Untimed
	sum.RequestBytes += c.RequestBytes
	sum.ResponseBytes += c.ResponseBytes
	sum.Peak = max(sum.Peak, c.Peak)
	sum.OwnNs += c.OwnNs
	sum.TookNs += c.TookNs
	sum.FirstNs += c.FirstNs
	addAll(sum.Marked[:], c.Marked[:])
	addAll(sum.Responses[:], c.Responses[:])
	addAll(sum.Protocols[:], c.Protocols[:])
	addAll(sum.Unfollowed[:], c.Unfollowed[:])
	addAll(sum.Took[:], c.Took[:])
	addAll(sum.First[:], c.First[:])
}

func addAll(sum, more []uint64) {
	for i, n := range more {
		sum[i] += n
	}
}

// firstPower is OBSERVE_FIRST of bpf/observe/abi.h: eight buckets for each power of two
// from 2^firstPower ns on.
const firstPower = 10

// histogram reports buckets of powers of two, the other histograms' own.
func histogram(d *prometheus.Desc, fine []uint64, ns uint64, labels []string) prometheus.Metric {
	buckets, sum := make(map[float64]uint64), uint64(0)
	for i, n := range fine {
		sum += n
		if power := firstPower + i/8 + 1; i%8 == 7 && power >= metrics.FirstBucket && power <= metrics.LastBucket {
			buckets[metrics.Bound(power)] = sum
		}
	}
	return prometheus.MustNewConstHistogram(d, sum, float64(ns)/1e9, buckets, labels...)
}
