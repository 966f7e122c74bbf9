package metrics

import (
	"maps"
	"testing"

	"eproxy/test/lib/gathered"
)

type queues struct{}

func (queues) EachQueued(each func(function string, messages, limit int)) { each("f", 3, 4096) }

// TestQueued: what a queue holds, and what it has room for.
func TestQueued(t *testing.T) {
	got := gathered.Values(t, NewQueued(queues{}))
	if want := map[string]float64{"eproxy_function_queue_limit_messages f": 4096, "eproxy_function_queue_messages f fallback": 3}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
