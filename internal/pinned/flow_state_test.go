package pinned

import (
	"slices"
	"testing"

	"eproxy/internal/bpf"
)

// TestFlowStatesAreKnown: every state that a flow is shown in is one that its gauges begin with.
func TestFlowStatesAreKnown(t *testing.T) {
	seen := make(map[string]bool)
	for state := bpf.EproxyConnStateCONN_ARMED; int(state) < len(connStates); state++ {
		for flags := range 2 * ending {
			seen[flowState(&bpf.EproxyConn{State: uint16(state), Flags: flags})] = true
		}
	}
	for s := range seen {
		if !slices.Contains(FlowStates, s) {
			t.Errorf("state %q is not among %q", s, FlowStates)
		}
	}
	if len(seen) != len(FlowStates) {
		t.Errorf("%d states are shown, %q are known", len(seen), FlowStates)
	}
}
