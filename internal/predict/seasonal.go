package predict

import (
	"math"
	"time"
)

const (
	day = 24 * time.Hour
	// parts of a day for each of which a rate is learnt.
	parts     = 96
	partOfDay = day / parts
	// forgetting is the weight of a day in the average.
	forgetting = 0.3
)

// Seasonal is awake at the times of day at which arrivals are frequent enough
// for lambda: where rate × lambda > 1.
type Seasonal struct {
	costs Costs
	last  time.Duration
	seen  bool
	// part is the number of the present part of a day since the origin.
	part  int64
	count float64
	days  int
	rate  [parts]float64 // arrivals per part
}

// NewSeasonal makes one that knows nothing yet.
func NewSeasonal(c Costs) *Seasonal { return &Seasonal{costs: c} }

// Observe counts an arrival.
func (s *Seasonal) Observe(at, _ time.Duration) {
	part := int64(at / partOfDay)
	if !s.seen {
		s.part, s.seen = part, true
	}
	s.close(part)
	s.count++
	s.last = at
}

// close ends the parts before the one given. Of what is longer ago than a few
// days nothing is left anyway.
func (s *Seasonal) close(part int64) {
	for turns := 0; s.part < part && turns < 30*parts; turns++ {
		i := s.part % parts
		if s.days == 0 {
			s.rate[i] = s.count
		} else {
			s.rate[i] += forgetting * (s.count - s.rate[i])
		}
		s.count = 0
		s.part++
		if s.part%parts == 0 {
			s.days++
		}
	}
	s.part = part
}

// Plan is for the day that follows the last arrival. In a day without any
// arrival the function is not what it was.
func (s *Seasonal) Plan() Plan {
	if s.days < 2 {
		return KeepAlive(s.costs.Lambda).Plan()
	}
	var windows []Window
	worth := partOfDay.Seconds() / max(s.costs.Lambda.Seconds(), math.SmallestNonzeroFloat64)
	for i := range int64(parts) {
		if s.rate[(s.part+i)%parts] <= worth {
			continue
		}
		from := time.Duration(s.part+i)*partOfDay - s.last
		windows = append(windows, Window{max(0, from), from + partOfDay})
	}
	return PlanOf(windows, s.costs.Start)
}
