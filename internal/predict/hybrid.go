package predict

import (
	"math"
	"time"
)

// The figures of Shahrad et al., "Serverless in the Wild", USENIX ATC 2020,
// section 4.2.
const (
	hybridBins      = 240 // of a minute: four hours
	hybridHead      = 0.05
	hybridTail      = 0.99
	hybridMargin    = 0.10
	hybridCV        = 2.0  // of the bins' counts: below it the histogram says nothing
	hybridOutside   = 0.5  // share of intervals outside it above which the series decides
	hybridSeriesTol = 0.15 // around the series' forecast
)

// Hybrid is the hybrid histogram policy of that paper. Where most intervals are
// longer than the histogram, the paper fits an ARIMA model to them; here the
// mean of recent ones, with the paper's margin, stands for it.
type Hybrid struct {
	last    time.Duration
	seen    bool
	counts  [hybridBins]uint32
	within  uint32
	outside uint32
	squares float64 // of the counts
	mean    float64 // of intervals outside, seconds
}

// NewHybrid makes one that knows nothing yet.
func NewHybrid() *Hybrid { return &Hybrid{} }

// Observe counts an idle time.
func (h *Hybrid) Observe(at, done time.Duration) {
	seen, idle := h.seen, max(0, at-max(h.last, done))
	h.last, h.seen = at, true
	if !seen {
		return
	}
	bin := int(idle / time.Minute)
	if bin >= hybridBins {
		h.outside++
		h.mean += (idle.Seconds() - h.mean) / float64(min(h.outside, 8))
		return
	}
	h.squares += 2*float64(h.counts[bin]) + 1
	h.counts[bin]++
	h.within++
}

// representative says whether the histogram has peaks.
func (h *Hybrid) representative() bool {
	mean := float64(h.within) / hybridBins
	deviation := math.Sqrt(max(0, h.squares/hybridBins-mean*mean))
	return h.within > 0 && deviation >= hybridCV*mean
}

// Plan keeps awake from the head to the tail of the histogram.
func (h *Hybrid) Plan() Plan {
	switch total := h.within + h.outside; {
	case total > 0 && float64(h.outside) > hybridOutside*float64(total):
		return PlanOf([]Window{{seconds(h.mean * (1 - hybridSeriesTol)), seconds(h.mean * (1 + hybridSeriesTol))}}, 0)
	case !h.representative():
		return KeepAlive(hybridBins * time.Minute).Plan()
	}
	head := time.Duration(h.bin(hybridHead)) * time.Minute
	tail := time.Duration(h.bin(hybridTail)+1) * time.Minute
	from := time.Duration(float64(head) * (1 - hybridMargin))
	to := time.Duration(float64(tail) * (1 + hybridMargin))
	if head == 0 {
		return Plan{Keep: to}
	}
	return PlanOf([]Window{{from, to}}, 0)
}

// bin in which the quantile q lies.
func (h *Hybrid) bin(q float64) int {
	want, sum := q*float64(h.within), 0.0
	for i, c := range h.counts {
		if sum += float64(c); sum >= want && c > 0 {
			return i
		}
	}
	return hybridBins - 1
}
