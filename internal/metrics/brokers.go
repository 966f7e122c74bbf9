package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	brokerUp      = prometheus.NewDesc("eproxy_broker_up", "1 if the broker behind eproxy accepts connections.", []string{"broker"}, nil)
	brokerClients = prometheus.NewDesc("eproxy_broker_clients", "Clients that the broker behind eproxy has let in.", []string{"broker"}, nil)
)

// BrokerSource tells of the brokers behind eproxy: host and port, whether each accepts connections, and how many clients it has let in.
type BrokerSource interface {
	EachBroker(each func(address string, up bool, clients int))
}

// behind collects what is known of brokers behind eproxy.
type behind struct{ source BrokerSource }

// NewBrokers collects what is known of the brokers behind eproxy, if there are any.
func NewBrokers(source BrokerSource) prometheus.Collector { return behind{source} }

// Describe says what Collect reports.
func (c behind) Describe(ch chan<- *prometheus.Desc) {
	ch <- brokerUp
	ch <- brokerClients
}

// Collect asks the source.
func (c behind) Collect(ch chan<- prometheus.Metric) {
	c.source.EachBroker(func(address string, up bool, clients int) {
		n := 0.0
		if up {
			n = 1
		}
		ch <- prometheus.MustNewConstMetric(brokerUp, prometheus.GaugeValue, n, address)
		ch <- prometheus.MustNewConstMetric(brokerClients, prometheus.GaugeValue, float64(clients), address)
	})
}
