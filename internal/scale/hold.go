package scale

import (
	"math/bits"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/slot"
)

// growth is how many connections more may be dialled at most, because of how the pod's new ones fare. A server that serves one
// connection until it closes would have a request on each that is dialled meanwhile, and none of those would be answered while
// messages come; a function that takes long needs more connections, or whoever comes behind its slow messages waits for them.
// Both look the same at first, so the first response on a connection is waited for as long as patience. After that
// time it is known of a connection
//   - that the server serves those behind it, if one that is younger was answered: it is the function that takes long;
//   - nothing, if none was answered since its request: one more is dialled, and waited for;
//   - that the server serves others instead, perhaps, if older ones were: one more is tried, each time after twice
//     as long, by as many as wait.
func growth(conns []slot.State, now, patience time.Duration) int {
	var youngest, latest time.Duration // of those that were answered
	for _, r := range conns {
		if r.Answered {
			youngest, latest = max(youngest, r.Ready), max(latest, r.Since)
		}
	}
	waiting, passedOver := 0, false
	var longest time.Duration
	for _, r := range conns {
		if !r.Connected || r.Closing || r.Idle || r.Answered || r.Ready < youngest {
			continue
		}
		wait := now - r.Asked
		if wait < patience {
			return 0
		}
		waiting++
		longest = max(longest, wait)
		passedOver = passedOver || latest > r.Asked
	}
	switch {
	case waiting == 0:
		return abi.SlotsPerPod
	case passedOver && bits.Len64(uint64(longest/max(patience, 1))) <= waiting:
		return 0
	}
	return 1
}
