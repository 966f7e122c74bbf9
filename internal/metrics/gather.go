package metrics

import (
	"errors"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Add has metrics reported that do not go through the registry, which makes, checks and sorts each series at each scrape. No
// other metrics may have their names, and their series must be in order. Not once anybody gathers.
func (m *Metrics) Add(more prometheus.TransactionalGatherer) { m.more = append(m.more, more) }

// Gather reads all metrics (prometheus.Gatherer). They stay as they are.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	all, _, err := transaction{m}.Gather() // without done nobody uses their memory again
	return all, err
}

// transaction gathers what may be changed after done (prometheus.TransactionalGatherer).
type transaction struct{ metrics *Metrics }

// Gather reads all metrics.
func (t transaction) Gather() (all []*dto.MetricFamily, done func(), err error) {
	all, err = t.metrics.Registry.Gather()
	var ends []func()
	for _, g := range t.metrics.more {
		families, end, failed := g.Gather()
		all, ends, err = append(all, families...), append(ends, end), errors.Join(err, failed)
	}
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all, func() {
		for _, end := range ends {
			end()
		}
	}, err
}
