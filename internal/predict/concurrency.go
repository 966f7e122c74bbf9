package predict

import (
	"fmt"
	"math"
)

const (
	// MaxHorizon bounds how far a forecast reaches, in ticks.
	MaxHorizon = 64
	// concurrencyMiss is the share of forecasts that may be exceeded.
	concurrencyMiss = 0.05
	// smoothing of the present level: it counts half after some three ticks.
	smoothing = 0.2
	// asleep is a level below which nothing is learnt: what matters there is
	// whether to be awake at all.
	asleep = 0.01
)

// Concurrency forecasts how many requests will be in progress at most within
// the time that an instance takes to start: what must be there, because nothing
// that is started now will come in time.
type Concurrency struct {
	horizon int
	ticks   int
	level   float64
	recent  [MaxHorizon]float64 // highest concurrency of each tick
	pending [MaxHorizon]forecast
	scores  sample
	miss    adaptive
	// Judged and missed forecasts.
	Judged, Missed int
}

// forecast waits for its horizon.
type forecast struct {
	made         bool
	blind        bool // nothing was known
	level, bound float64
}

// NewConcurrency makes one that looks ahead for a number of ticks.
func NewConcurrency(horizon int) (*Concurrency, error) {
	if horizon < 1 || horizon > MaxHorizon {
		return nil, fmt.Errorf("horizon of %d ticks: must be from 1 to %d", horizon, MaxHorizon)
	}
	return &Concurrency{horizon: horizon, miss: concurrencyMiss}, nil
}

// scale is by how much a level varies if its requests have nothing to do with
// each other.
func scale(level float64) float64 { return math.Sqrt(level + 1) }

// Observe tells of the highest concurrency in the tick that ends now.
func (c *Concurrency) Observe(highest float64) {
	c.recent[c.ticks%c.horizon] = highest
	if f := &c.pending[c.ticks%c.horizon]; f.made {
		c.judge(*f)
	}
	c.level += smoothing * (highest - c.level)
	c.pending[c.ticks%c.horizon] = forecast{made: c.level > asleep, blind: c.scores.n == 0, level: c.level, bound: c.Bound()}
	c.ticks++
}

func (c *Concurrency) judge(f forecast) {
	highest := 0.0
	for _, v := range c.recent[:c.horizon] {
		highest = max(highest, v)
	}
	if !f.blind {
		c.Judged++
		if highest > f.bound {
			c.Missed++
		}
		c.miss.correct(highest > f.bound, concurrencyMiss)
	}
	c.scores.add((highest - f.level) / scale(f.level))
}

// Bound is what concurrency will not exceed within the horizon, 19 times in 20.
// Where that asks for more than was ever seen, it is the most that was.
func (c *Concurrency) Bound() float64 {
	if c.level <= asleep || c.scores.n == 0 {
		return 0
	}
	most := c.scores.sorted[c.scores.n-1]
	return max(0, c.level+scale(c.level)*min(most, c.scores.quantile(1-float64(c.miss))))
}

// Floor is the number of instances below which a reactive scaler should not go,
// with the given number of requests per instance.
func (c *Concurrency) Floor(perInstance float64) int {
	return int(math.Ceil(c.Bound() / perInstance))
}
