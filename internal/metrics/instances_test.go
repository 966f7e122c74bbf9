package metrics

import (
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

type someInstances struct{}

func (someInstances) EachInstances(each func(function, state string, instances int, memory int64)) {
	each("f", "ready", 2, 100)
	each("f", "frozen", 1, 20)
	each("g", "paged-out", 1, 3)
}

func (someInstances) EachEvicted(each func(function string, instances uint64)) { each("h", 4) }

// TestInstances: by function and state; memory by function.
func TestInstances(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(NewInstances(someInstances{})); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{"eproxy_instances f ready": 2, "eproxy_instances f frozen": 1, "eproxy_instances g paged-out": 1,
		"eproxy_instance_memory_bytes f": 120, "eproxy_instances_evicted_total h": 4, "eproxy_instance_memory_bytes g": 3}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
