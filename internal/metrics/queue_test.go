package metrics

import (
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

type queues struct{}

func (queues) EachQueued(each func(function string, messages, limit int)) { each("f", 3, 4096) }

// TestQueued: what a queue holds, and what it has room for.
func TestQueued(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(NewQueued(queues{})); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] += m.GetGauge().GetValue()
		}
	}
	if want := map[string]float64{"eproxy_function_queue_limit_messages": 4096, "eproxy_function_queue_messages": 3}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
