package observe

import (
	"cmp"

	dto "github.com/prometheus/client_model/go"

	"eproxy/internal/metrics"
)

// tree is the metrics of all pods as they are written to Prometheus, with the memory for their values. A scrape changes only
// the values: nearly 100 series for each of hundreds of pods are expensive to make, check and sort again and again.
type tree struct {
	generation uint64 // of the pods
	families   []*dto.MetricFamily
	pods       []*podMetrics
	followed   float64
	reading    reading // of one pod at a time
}

// podMetrics are those of one pod.
type podMetrics struct {
	pod        *pod
	singles    [][]*dto.Metric // by family
	values     []float64       // of all of them
	histograms [len(histogramFamilies)]podHistogram
}

// newPodMetrics makes the metrics of a pod, all at zero.
func newPodMetrics(p *pod) *podMetrics {
	m := &podMetrics{pod: p}
	n := 0
	for _, f := range families {
		n += len(f.values)
	}
	m.values = make([]float64, n) // never moved: the metrics point into it
	left := m.values
	function, address := pair("function", p.functions), pair("pod", p.address.String())
	for _, f := range families {
		var all []*dto.Metric
		for _, v := range f.values {
			all = append(all, f.metric(&left[0], labels(function, address, f.label, v)))
			left = left[1:]
		}
		m.singles = append(m.singles, all)
	}
	for i := range m.histograms {
		m.histograms[i].init(labels(function, address, "", ""))
	}
	return m
}

// set gives the metrics their values.
func (m *podMetrics) set(r *reading) {
	n := 0
	for _, f := range families {
		for i := range f.values {
			m.values[n] = f.of(r, i)
			n++
		}
	}
	for i := range m.histograms {
		m.histograms[i].set(histogramFamilies[i].of(r))
	}
}

// metric is one of the family, whose value is at a place.
func (f *family) metric(at *float64, labels []*dto.LabelPair) *dto.Metric {
	if f.kind == counter {
		return &dto.Metric{Label: labels, Counter: &dto.Counter{Value: at}}
	}
	return &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: at}}
}

func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// labels are a metric's, in the order of their names; further is empty where there is no more than the two.
func labels(function, pod *dto.LabelPair, further, value string) []*dto.LabelPair {
	switch {
	case further == "":
		return []*dto.LabelPair{function, pod}
	case further < function.GetName():
		return []*dto.LabelPair{pair(further, value), function, pod}
	}
	return []*dto.LabelPair{function, pod, pair(further, value)} // all others are behind "pod"
}

// byLabels is the order of metrics of a name: that of their labels' values.
func byLabels(a, b *dto.Metric) int {
	for i, l := range a.Label {
		if c := cmp.Compare(l.GetValue(), b.Label[i].GetValue()); c != 0 {
			return c
		}
	}
	return 0
}

// firstPower is OBSERVE_FIRST of bpf/observe/abi.h: eight buckets for each power of two
// from 2^firstPower ns on.
const firstPower = 10

// bounds are the upper ones of the buckets: powers of two, the other histograms' own.
var bounds = func() (all [metrics.LastBucket - metrics.FirstBucket + 1]float64) {
	for i := range all {
		all[i] = metrics.Bound(metrics.FirstBucket + i)
	}
	return all
}()

// podHistogram is a histogram with the memory for its values.
type podHistogram struct {
	metric  *dto.Metric
	count   uint64
	seconds float64
	buckets [len(bounds)]uint64
}

func (h *podHistogram) init(labels []*dto.LabelPair) {
	all := make([]*dto.Bucket, len(bounds))
	for i := range all {
		all[i] = &dto.Bucket{CumulativeCount: &h.buckets[i], UpperBound: &bounds[i]}
	}
	h.metric = &dto.Metric{Label: labels, Histogram: &dto.Histogram{SampleCount: &h.count, SampleSum: &h.seconds, Bucket: all}}
}

// set adds up the programs' buckets, of which there are eight to a power of two.
func (h *podHistogram) set(fine []uint64, ns uint64) {
	h.count = 0
	for i, n := range fine {
		h.count += n
		if power := firstPower + i/8 + 1; i%8 == 7 && power >= metrics.FirstBucket && power <= metrics.LastBucket {
			h.buckets[power-metrics.FirstBucket] = h.count
		}
	}
	h.seconds = float64(ns) / 1e9
}
