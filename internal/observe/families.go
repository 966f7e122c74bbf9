package observe

import (
	dto "github.com/prometheus/client_model/go"

	"eproxy/internal/bpf/observer"
)

// reading is what the metrics of one pod are made of.
type reading struct {
	observer.ObserveObserveCounts
	flight flight
	seen   bool // its HTTP can be
}

// family is the metrics of one name: for each pod one for each value of a further label, or a single one where there is none.
type family struct {
	name, help string
	kind       dto.MetricType
	label      string
	values     []string
	of         func(r *reading, i int) float64 // of the value with that index
}

var (
	single    = []string{""}
	classes   = []string{"1xx", "2xx", "3xx", "4xx", "5xx"}
	ways      = []string{"request", "response"}
	protocols = []string{"http1", "http2", "tls", "upgraded", "other"}
	reasons   = []string{"gap", "malformed", "unasked", "depth", "lines", "joined", "full"}

	counter, gauge = dto.MetricType_COUNTER, dto.MetricType_GAUGE
)

var families = []family{
	{"eproxy_http_requests_total", "HTTP requests to pods, whoever sent them.", counter, "", single,
		func(r *reading, _ int) float64 { return float64(r.Requests) }},
	{"eproxy_http_responses_total", "HTTP responses of pods.", counter, "class", classes,
		func(r *reading, i int) float64 { return float64(r.Responses[1+i]) }},
	{"eproxy_http_unanswered_total", "Requests whose connection ended before their response did.", counter, "", single,
		func(r *reading, _ int) float64 { return float64(r.Unanswered) }},
	{"eproxy_http_unknown_total", "Requests whose connection could not be followed to their response.", counter, "", single,
		func(r *reading, _ int) float64 { return float64(r.Unknown) }},
	{"eproxy_http_untimed_total", "Responses of which it is not known when their request was sent.", counter, "", single,
		func(r *reading, _ int) float64 { return float64(r.Untimed) }},
	{"eproxy_http_bytes_total", "TCP payload, each byte once.", counter, "direction", ways,
		func(r *reading, i int) float64 { return float64([...]uint64{r.RequestBytes, r.ResponseBytes}[i]) }},
	{"eproxy_http_connections_total", "Connections by what they carry.", counter, "protocol", protocols,
		func(r *reading, i int) float64 { return float64(r.Protocols[1+i]) }},
	{"eproxy_http_unfollowed_total", "Connections that could not be followed any more.", counter, "reason", reasons,
		func(r *reading, i int) float64 { return float64(r.Unfollowed[i]) }},
	{"eproxy_http_inflight", "Requests in flight that were seen on the wire.", gauge, "", single,
		func(r *reading, _ int) float64 { return float64(r.flight.now) }},
	{"eproxy_http_inflight_peak", "Most of them at a time.", gauge, "", single,
		func(r *reading, _ int) float64 { return float64(r.Peak) }},
	{"eproxy_http_inflight_seconds_total", "Requests in flight over time: the integral.", counter, "", single,
		func(r *reading, _ int) float64 { return float64(r.flight.all) / 1e9 }},
	{"eproxy_http_observed", "Whether the pod's HTTP can be seen.", gauge, "", single,
		func(r *reading, _ int) float64 {
			if r.seen {
				return 1
			}
			return 0
		}},
}

// histogramFamily is the histograms of one name, one for each pod.
type histogramFamily struct {
	name, help string
	of         func(r *reading) (fine []uint64, ns uint64)
}

var histogramFamilies = [...]histogramFamily{
	{"eproxy_http_request_duration_seconds", "From a request's first byte to its response's last one.",
		func(r *reading) ([]uint64, uint64) { return r.Took[:], r.TookNs }},
	{"eproxy_http_first_byte_seconds", "From a request's first byte to the first one of its final response.",
		func(r *reading) ([]uint64, uint64) { return r.First[:], r.FirstNs }},
}

const (
	followedName = "eproxy_http_followed"
	followedHelp = "Connections to pods that are known."
)
