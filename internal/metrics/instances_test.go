package metrics

import (
	"maps"
	"testing"

	"eproxy/test/lib/gathered"
)

type someInstances struct{}

func (someInstances) EachInstances(each func(function, state string, instances int, memory int64)) {
	each("f", "ready", 2, 100)
	each("f", "frozen", 1, 20)
	each("g", "paged-out", 1, 3)
}

func (someInstances) EachEvicted(each func(function string, instances uint64)) { each("h", 4) }

func (someInstances) EachZygote(each func(function string, memory int64, forks int)) { each("g", 7, 5) }

// TestInstances: by function and state; memory by function.
func TestInstances(t *testing.T) {
	got := gathered.Values(t, NewInstances(someInstances{}))
	want := map[string]float64{"eproxy_instances f ready": 2, "eproxy_instances f frozen": 1, "eproxy_instances g paged-out": 1,
		"eproxy_instance_memory_bytes f": 120, "eproxy_instances_evicted_total h": 4, "eproxy_instance_memory_bytes g": 3,
		"eproxy_zygote_memory_bytes g": 7, "eproxy_instances_forked_total g": 5}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
