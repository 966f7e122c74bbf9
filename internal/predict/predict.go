// Package predict decides when a function's instance is awake: online, per
// function, from the times of its arrivals alone. It does no input or output
// and reads no clock, so that a scaler and a simulator run the same code.
//
// Times are time.Duration since an origin of the caller's choice that is the
// same in all calls; for Seasonal it must be a midnight, such as the Unix
// epoch. They never go back. Nothing here is safe for concurrent use.
package predict

import (
	"errors"
	"fmt"
	"time"
)

// Policy decides for one function whose instances all sleep at times.
type Policy interface {
	// Observe tells of an arrival at the given time. done is when all work on
	// the arrivals before it was or will be finished: after at if an instance
	// is busy, 0 at the first arrival.
	Observe(at, done time.Duration)
	// Plan says when to be awake from the last arrival on, until the next one.
	Plan() Plan
}

// Costs are what a policy weighs, in seconds of an idle instance.
type Costs struct {
	// Lambda is the idle time that one cold start is worth: the user's one knob.
	Lambda time.Duration
	// Start is how long an instance takes from its start to being ready. It
	// is also what a start costs beside the wait.
	Start time.Duration
}

// DefaultLambda is the keep-alive that platforms pay for nothing but the hope
// of another call: whoever keeps an instance for ten minutes says that
// avoiding a cold start is worth as much.
const DefaultLambda = 10 * time.Minute

// maxTime bounds what a user may ask for: sums of a few of them do not overflow.
const maxTime = 30 * 24 * time.Hour

// Check says what is wrong with the costs.
func (c Costs) Check() error {
	if c.Lambda < 0 || c.Lambda > maxTime {
		return fmt.Errorf("lambda %v: must be from 0 to %v", c.Lambda, maxTime)
	}
	if c.Start < 0 || c.Start > maxTime {
		return fmt.Errorf("start %v: must be from 0 to %v", c.Start, maxTime)
	}
	if c.Lambda == 0 && c.Start == 0 {
		return errors.New("lambda and start are both 0: then nothing costs anything")
	}
	return nil
}

// of is what an outcome costs, in seconds.
func (c Costs) of(o Outcome) float64 {
	cost := o.Idle.Seconds() + float64(o.Starts)*c.Start.Seconds()
	if o.Cold {
		cost += c.Lambda.Seconds()
	}
	if o.OnDemand {
		cost += c.Start.Seconds()
	}
	return cost
}
