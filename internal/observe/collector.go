package observe

import (
	"errors"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// Gather reads the counters of all pods (prometheus.TransactionalGatherer). What it returns is used again after done; who
// keeps it does not call done. o.mu is held for one pod at a time.
func (o *Observer) Gather() (out []*dto.MetricFamily, done func(), err error) {
	t := o.tree()
	for _, p := range t.pods {
		err = errors.Join(err, o.gather(p, &t.reading))
	}
	return t.families, func() { o.trees.Put(t) }, err
}

// gather brings the metrics of one pod up to date. Those of one that was given up meanwhile stay: its counters may be another's.
func (o *Observer) gather(m *podMetrics, r *reading) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pods[m.pod.address] != m.pod {
		return nil
	}
	if err := o.counts(m.pod, &r.ObserveObserveCounts); err != nil {
		return err
	}
	f, err := o.flight(m.pod, &r.ObserveObserveCounts)
	if err != nil {
		return err
	}
	r.flight, r.seen = f, m.pod.ifname != ""
	m.set(r)
	return nil
}

// tree is a tree for the pods of now: one that was used before, or a new one.
func (o *Observer) tree() *tree {
	o.mu.Lock()
	defer o.mu.Unlock()
	t, _ := o.trees.Get().(*tree)
	if t == nil || t.generation != o.generation {
		t = o.newTree()
	}
	t.followed = float64(o.followed)
	return t
}

// newTree makes the metrics of the pods of now, without their values; o.mu is held.
func (o *Observer) newTree() *tree {
	t := &tree{generation: o.generation}
	for _, p := range o.pods {
		t.pods = append(t.pods, newPodMetrics(p))
	}
	t.families = append(t.families, &dto.MetricFamily{Name: new(followedName), Help: new(followedHelp), Type: gauge.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &t.followed}}}})
	if len(t.pods) == 0 { // a family must not be empty
		return t
	}
	for i, f := range families {
		all := &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: f.kind.Enum()}
		for _, p := range t.pods {
			all.Metric = append(all.Metric, p.singles[i]...)
		}
		t.families = append(t.families, all)
	}
	for i, f := range histogramFamilies {
		all := &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: dto.MetricType_HISTOGRAM.Enum()}
		for _, p := range t.pods {
			all.Metric = append(all.Metric, p.histograms[i].metric)
		}
		t.families = append(t.families, all)
	}
	for _, f := range t.families {
		slices.SortFunc(f.Metric, byLabels)
	}
	return t
}
