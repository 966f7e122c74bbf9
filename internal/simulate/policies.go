package simulate

import (
	"time"

	"eproxy/internal/predict"
)

// Wake-ups.
const (
	// Start of an instance that does not exist.
	Start = time.Second
	// Thaw of a frozen process to its first response: Node, measured; Go takes
	// less than half.
	Thaw = 780 * time.Microsecond
)

// KEDA's defaults (keda.sh, ScaledObject): how often a trigger is looked at, and
// how long after it was last active the last instance goes.
const (
	kedaPoll     = 30 * time.Second
	kedaCooldown = 300 * time.Second
)

// Policies are all that are compared on single instances, but for Knative's,
// which is in a module of its own.
func Policies(c predict.Costs) []*Policy {
	fixed := func(name string, keep time.Duration) *Policy {
		return &Policy{Name: name, Start: c.Start, New: func(*Function) predict.Policy { return predict.KeepAlive(keep) }}
	}
	policies := []*Policy{
		{Name: "selector", Start: c.Start, New: func(*Function) predict.Policy { return predict.NewSelector(c) }},
		{Name: "hazard", Start: c.Start, New: func(*Function) predict.Policy { return predict.NewHazard(c) }},
		{Name: "last value", Start: c.Start, New: func(*Function) predict.Policy { return predict.NewLastValue(c) }},
		{Name: "seasonal", Start: c.Start, New: func(*Function) predict.Policy { return predict.NewSeasonal(c) }},
		{Name: "hybrid", Start: c.Start, New: func(*Function) predict.Policy { return predict.NewHybrid() }},
		fixed("fixed 1.5 min", 90*time.Second),
		fixed("fixed 5 min", 5*time.Minute),
		fixed("fixed 10 min", 10*time.Minute),
		fixed("fixed 60 min", 60*time.Minute),
		keda(c.Start),
		fixed("always warm", predict.Forever),
		{Name: "always frozen", Start: Thaw, Frozen: true, New: func(*Function) predict.Policy { return predict.KeepAlive(0) }},
		{Name: "oracle", Start: c.Start, New: newOracle},
	}
	for _, p := range policies[len(policies)-3:] {
		p.Reference = true
	}
	return policies
}

// keda by its rules, for a trigger that shows at a poll whatever has happened
// since the one before; many show only what still waits.
func keda(start time.Duration) *Policy {
	return &Policy{Name: "KEDA", Start: start,
		New:   func(*Function) predict.Policy { return &kedaPolicy{} },
		Delay: untilPoll,
	}
}

// untilPoll is how long after a time the trigger is looked at.
func untilPoll(at time.Duration) time.Duration { return (kedaPoll - at%kedaPoll) % kedaPoll }

type kedaPolicy struct{ last time.Duration }

func (k *kedaPolicy) Observe(at, _ time.Duration) { k.last = at }

// Plan is to stay until the first poll after the cooldown, which begins at the
// poll that saw the last arrival.
func (k *kedaPolicy) Plan() predict.Plan {
	return predict.Plan{Keep: untilPoll(k.last) + kedaCooldown}
}

// oracle knows the arrivals: it starts for each, or stays where that is less.
type oracle struct {
	arrivals []time.Duration
	next     int
}

func newOracle(f *Function) predict.Policy { return &oracle{arrivals: f.Arrivals} }

func (o *oracle) Observe(_, _ time.Duration) { o.next++ }

func (o *oracle) Plan() predict.Plan {
	if o.next >= len(o.arrivals) {
		return predict.Plan{}
	}
	gap := o.arrivals[o.next] - o.arrivals[o.next-1]
	return predict.PlanOf([]predict.Window{{From: gap, To: gap + 1}}, Start)
}
