package instances

import (
	"math"
	"time"

	"eproxy/internal/predict"
)

const (
	// A function with work is looked at every busyLook if it may have several instances, else, and one that has none but is
	// awake, every idleLook. One that sleeps, or is stopped, is not looked at.
	busyLook = 100 * time.Millisecond
	idleLook = time.Second
	// lowerEvery is how often instances are taken away: as often as Knative decides.
	lowerEvery = 2 * time.Second
	// never is so late that a look does not matter.
	never = time.Hour
)

// scaler says how many instances a function should have. It is asked at times, and told what holds then.
type scaler struct {
	kpa      *predict.KPA
	forecast *predict.Concurrency // nil: how long a start takes is not known yet
	selector *predict.Selector    // nil, as long
	plan     predict.Plan         // since last; predict.KeepAlive's of lambda as long as there is no selector

	any     bool          // there was a message
	last    time.Duration // message
	done    time.Duration // the work on messages was
	busy    bool          // there is some
	start   time.Duration // of an instance
	evicted time.Duration // until when it has no instance without a message, as others need the memory
	failure string        // of the starts since an instance was last ready; empty: none has failed

	sampled  time.Duration // when the load was last recorded
	highest  float64       // load in the second of sampled
	reactive int           // instances by kpa, lately
	lowered  time.Duration // when that last was made less
}

// seen is what a scaler is told.
type seen struct {
	now      time.Duration
	min, max int
	lambda   time.Duration
	start    time.Duration // of an instance; 0: not known
	load     Load
	arrived  bool   // a message, since it was last asked
	pods     int    // instances that get requests
	awake    int    // that run, or are being started
	starting int    // of these, that are being started
	failed   string // why an instance is not ready that was started; empty: none has failed
}

// want is how many instances there should be, and after which time to ask again at the latest.
func (c *scaler) want(x seen) (n int, look time.Duration) {
	c.note(x)
	n, look = max(x.min, c.concurrent(x)), never
	if c.failure != "" { // more of what does not start helps nobody
		n = x.min
	}
	if x.awake > 0 || c.busy || x.failed != "" {
		look = idleLook
		if c.busy && x.max > 1 {
			look = busyLook
		}
	}
	if c.busy {
		n = max(n, 1)
	}
	if x.min > 0 || c.failure != "" {
		return min(n, x.max), look
	}
	if !c.busy && x.now < c.evicted {
		return 0, min(look, c.evicted-x.now)
	}
	stays, until := c.stays(x.now)
	if stays || x.starting > 0 && x.pods == 0 { // what was begun for a message ends no sooner than it could serve it
		n = max(n, 1)
	}
	return min(n, x.max), min(look, until)
}

// stays says whether an instance is to be there without work, and for how long that holds.
func (c *scaler) stays(now time.Duration) (bool, time.Duration) {
	if !c.any {
		return false, never
	}
	age := now - c.last
	stays, until := c.plan.At(age, max(0, c.done-c.last), c.start)
	if until == predict.Forever {
		return stays, never
	}
	return stays, max(until-age, time.Millisecond)
}

// evict has no instance there until a message comes, or the plan has one begun before the next.
func (c *scaler) evict(now time.Duration) {
	_, until := c.stays(now)
	if c.evicted = now + until; until == never {
		c.evicted = math.MaxInt64
	}
}

// note takes in what a scaler is told.
func (c *scaler) note(x seen) {
	if x.start > 0 {
		c.start = x.start
	}
	c.busy = x.load.Requests > 0
	if x.arrived {
		c.arrive(x)
	}
	if c.busy {
		c.done = x.now
	}
	switch {
	case x.pods > 0:
		c.failure = ""
	case x.failed != "":
		c.failure = x.failed
	}
	c.record(x)
}

// arrive learns from messages. Those within a second of each other count as one.
func (c *scaler) arrive(x seen) {
	if c.selector == nil && x.start > 0 {
		c.selector = predict.NewSelector(predict.Costs{Lambda: x.lambda, Start: x.start})
	}
	c.evicted = 0
	if c.any && x.now-c.last < idleLook {
		return
	}
	c.any, c.last = true, x.now
	if c.selector == nil {
		c.plan = predict.KeepAlive(x.lambda).Plan()
		return
	}
	c.selector.Observe(x.now, min(c.done, x.now))
	c.plan = c.selector.Plan()
}

// record tells the reactive scaler, and the forecast, of the load since they were last told: as it is now.
func (c *scaler) record(x seen) {
	if c.kpa == nil {
		c.kpa = predict.NewKPA(1)
	}
	passed := min(x.now-c.sampled, idleLook)
	if passed <= 0 {
		return
	}
	load := float64(x.load.Requests)
	c.kpa.Record(x.now, load*passed.Seconds())
	c.observe(x, load)
	c.sampled = x.now
}

// observe tells the forecast of the seconds that have passed.
func (c *scaler) observe(x seen, load float64) {
	if c.forecast == nil && x.start > 0 && x.max > 1 {
		horizon := int(math.Ceil((x.start + lowerEvery).Seconds()))
		c.forecast, _ = predict.NewConcurrency(min(max(horizon, 1), predict.MaxHorizon)) // which is in its bounds
	}
	seconds := int(x.now/time.Second - c.sampled/time.Second)
	if seconds > 0 && c.forecast != nil {
		c.forecast.Observe(c.highest)
		for range min(seconds-1, predict.MaxHorizon) {
			c.forecast.Observe(0)
		}
	}
	if seconds > 0 {
		c.highest = 0
	}
	c.highest = max(c.highest, load)
}

// concurrent is how many instances the load needs, and will need before another one could be there.
func (c *scaler) concurrent(x seen) int {
	if x.max == 1 {
		return 0
	}
	each := float64(max(1, x.load.PerInstance))
	c.kpa.Target = predict.TargetOf(x.load.PerInstance)
	n := c.kpa.Scale(x.now, x.pods)
	if n < c.reactive && x.now-c.lowered < lowerEvery {
		n = c.reactive
	} else if n < c.reactive {
		c.lowered = x.now
	}
	c.reactive = n
	if c.forecast != nil && c.forecast.Bound() > 0 {
		n = max(n, c.forecast.Floor(each))
	}
	return n
}

// policy is the name of what decides whether an instance stays.
func (c *scaler) policy() string {
	if c.selector == nil {
		return "keep-alive"
	}
	return c.selector.Current()
}

// expected is when the next message is expected.
func (c *scaler) expected() (from, to time.Duration, ok bool) {
	if c.selector == nil {
		return 0, 0, false
	}
	from, to, ok = c.selector.Expected()
	return c.last + from, c.last + to, ok
}
