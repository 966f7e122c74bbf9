package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/delivery"
	"eproxy/internal/spool"
)

// SpoolSource tells of the functions' spools.
type SpoolSource interface {
	EachSpool(tell func(delivery.SpoolStat))
}

// spools collects what is in them.
type spools struct{ source SpoolSource }

// NewSpools collects what is in the functions' spools.
func NewSpools(source SpoolSource) prometheus.Collector { return spools{source} }

var (
	spoolUsable   = spoolDesc("eproxy_spool_usable", "1 if the function's spool is open, else 0.")
	spoolMessages = spoolDesc("eproxy_spool_messages", "Messages in the function's spool.")
	spoolBytes    = spoolDesc("eproxy_spool_bytes", "Bytes of them.")
	spoolLimit    = spoolDesc("eproxy_spool_limit_bytes", "Bytes that the spool has room for.")
	spoolPut      = spoolDesc("eproxy_spool_put_total", "Messages that were written to the spool.")
	spoolEnded    = spoolDesc("eproxy_spool_ended_total", "Messages that have left the spool.", "outcome")
	spoolRefused  = spoolDesc("eproxy_spool_refused_total", "Messages that found no room in the spool.", "reason")
)

func spoolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"function"}, labels...), nil)
}

// Describe says what Collect reports.
func (c spools) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{spoolUsable, spoolMessages, spoolBytes, spoolLimit, spoolPut, spoolEnded, spoolRefused} {
		ch <- d
	}
}

// Collect asks the source.
func (c spools) Collect(ch chan<- prometheus.Metric) {
	c.source.EachSpool(func(s delivery.SpoolStat) {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Function)
		}
		count := func(d *prometheus.Desc, v uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{s.Function}, labels...)...)
		}
		if !s.Usable {
			gauge(spoolUsable, 0)
			return
		}
		gauge(spoolUsable, 1)
		gauge(spoolMessages, float64(s.Messages))
		gauge(spoolBytes, float64(s.Bytes))
		gauge(spoolLimit, float64(s.Limit))
		count(spoolPut, s.Put)
		for outcome, n := range s.Ended {
			count(spoolEnded, n, outcome)
		}
		for why, n := range s.Refused {
			count(spoolRefused, n, spool.Refusal(why).String())
		}
	})
}
