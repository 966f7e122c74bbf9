package top

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The kinds of rows.
const (
	Function = "function"
	Pod      = "pod"
	Program  = "program"
	Route    = "route" // of Routes alone
)

// Row is what a function, one of its pods, a program, or a route did between two readings. What is not known is NaN.
type Row struct {
	Kind, Name, Pod string
	Function        string  // that a route leads to; otherwise empty
	Rate            float64 // per second: messages that ended, requests to the pod, runs of the program
	InFlight        float64 // requests, now
	Waiting         float64 // messages, now
	P50, P99        float64 // microseconds
	Share           float64 // part of the messages that ended in the kernel, percent
	Errors          float64 // per second: messages that were not delivered; requests without a response or with a status from 400 on
	CPU             float64 // percent of one processor
}

func newRow(kind, name, pod string) *Row {
	n := math.NaN()
	return &Row{Kind: kind, Name: name, Pod: pod, InFlight: n, Waiting: n, P50: n, P99: n, Share: n, Errors: n, CPU: n}
}

// key is what makes a series: the same in both readings.
func (s series) key() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.labels)) {
		fmt.Fprintf(&b, "%q=%q,", k, s.labels[k])
	}
	return b.String()
}

// grown are the series of a counter, with how much they have grown. One that is less than before began anew.
func grown(a, b *Snapshot, name string) []series {
	before := make(map[string]float64)
	for _, s := range a.of(name) {
		before[s.key()] = s.value
	}
	out := b.of(name)
	for i, s := range out {
		if was := before[s.key()]; was <= s.value {
			out[i].value -= was
		}
	}
	return out
}

// Between is what happened between two readings, by kind, name and pod.
func Between(a, b *Snapshot) []Row {
	t := table{rows: make(map[[3]string]*Row), seconds: b.At.Sub(a.At).Seconds()}
	t.messages(a, b)
	t.requests(a, b)
	t.now(b)
	t.programs(a, b)
	out := make([]Row, 0, len(t.rows))
	for _, r := range t.rows {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(x, y Row) int {
		return cmp.Or(cmp.Compare(order(x), order(y)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Pod, y.Pod))
	})
	return out
}

// order puts programs last.
func order(r Row) int {
	if r.Kind == Program {
		return 1
	}
	return 0
}

type table struct {
	rows    map[[3]string]*Row
	seconds float64
}

func (t *table) row(kind, name, pod string) *Row {
	k := [3]string{kind, name, pod}
	if t.rows[k] == nil {
		t.rows[k] = newRow(kind, name, pod)
	}
	return t.rows[k]
}

// messages are those of the functions, with their durations: by the routes that lead to them.
func (t *table) messages(a, b *Snapshot) {
	kernel, all := make(map[string]float64), make(map[string]float64)
	routes := make(map[string]map[string]bool) // by function
	for _, s := range grown(a, b, "eproxy_messages_total") {
		function := s.labels["function"]
		r := t.row(Function, function, "")
		r.Rate += s.value / t.seconds
		all[function] += s.value
		if s.labels["path"] == "kernel" {
			kernel[function] += s.value
		}
		if math.IsNaN(r.Errors) {
			r.Errors = 0
		}
		if s.labels["outcome"] != "delivered" {
			r.Errors += s.value / t.seconds
		}
		if routes[function] == nil {
			routes[function] = make(map[string]bool)
		}
		routes[function][s.labels["route"]] = true
	}
	byRoute := durations(a, b, "eproxy_message_duration_seconds", "route")
	for function, names := range routes {
		r := t.row(Function, function, "")
		if all[function] > 0 {
			r.Share = 100 * kernel[function] / all[function]
		}
		took := make(buckets)
		for route := range names {
			for upper, n := range byRoute[route] {
				took[upper] += n
			}
		}
		r.P50, r.P99 = took.quantiles()
	}
}

// requests are those of the pods; their durations are known where monitoring is on.
func (t *table) requests(a, b *Snapshot) {
	for _, s := range grown(a, b, "eproxy_function_requests_total") {
		r := t.row(Pod, s.labels["function"], s.labels["pod"])
		r.Rate += s.value / t.seconds
		if math.IsNaN(r.Errors) {
			r.Errors = 0
		}
		if code, err := strconv.Atoi(s.labels["code"]); err != nil || code < 200 || code >= 400 {
			r.Errors += s.value / t.seconds
		}
	}
	byPod := durations(a, b, "eproxy_http_request_duration_seconds", "function", "pod")
	for k, r := range t.rows {
		if k[0] == Pod {
			r.P50, r.P99 = byPod[join(k[1:])].quantiles()
		}
	}
}

// now is what is so at the later reading.
func (t *table) now(b *Snapshot) {
	add := func(to *float64, v float64) {
		if math.IsNaN(*to) {
			*to = 0
		}
		*to += v
	}
	for _, s := range b.of("eproxy_function_inflight") {
		add(&t.row(Function, s.labels["function"], "").InFlight, s.value)
		add(&t.row(Pod, s.labels["function"], s.labels["pod"]).InFlight, s.value)
	}
	for _, s := range b.of("eproxy_function_queue_messages") {
		add(&t.row(Function, s.labels["function"], "").Waiting, s.value)
	}
}

// programs are what the BPF programs cost. While the kernel does not measure it they seem not to run.
func (t *table) programs(a, b *Snapshot) {
	for _, s := range grown(a, b, "eproxy_program_runs_total") {
		if s.value > 0 {
			t.row(Program, s.labels["program"], "").Rate = s.value / t.seconds
		}
	}
	for _, s := range grown(a, b, "eproxy_program_seconds_total") {
		if s.value > 0 {
			t.row(Program, s.labels["program"], "").CPU = 100 * s.value / t.seconds
		}
	}
}

// durations are what the series of a histogram have counted between two readings, summed up by the values of some labels.
func durations(a, b *Snapshot, name string, labels ...string) map[string]buckets {
	out := make(map[string]buckets)
	for _, x := range []struct {
		s    *Snapshot
		sign float64
	}{{b, 1}, {a, -1}} {
		for _, s := range x.s.of(name) {
			if s.hist == nil {
				continue
			}
			key := s.of(labels)
			if out[key] == nil {
				out[key] = make(buckets)
			}
			out[key].add(s.hist, x.sign)
		}
	}
	return out
}

// quantiles are the median and the 99th percentile, microseconds; NaN if nothing was counted.
func (b buckets) quantiles() (p50, p99 float64) { return 1e6 * b.quantile(0.5), 1e6 * b.quantile(0.99) }

// quantile is as Prometheus' histogram_quantile: linear within a bucket; of the last one its lower bound.
func (b buckets) quantile(q float64) float64 {
	bounds := slices.Sorted(maps.Keys(b))
	if len(bounds) == 0 || b[bounds[len(bounds)-1]] <= 0 {
		return math.NaN()
	}
	rank := q * b[bounds[len(bounds)-1]]
	low, below := 0.0, 0.0
	for _, upper := range bounds {
		if b[upper] >= rank {
			if math.IsInf(upper, 1) {
				return low
			}
			return low + (upper-low)*(rank-below)/(b[upper]-below)
		}
		low, below = upper, b[upper]
	}
	return low
}
