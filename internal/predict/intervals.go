package predict

import (
	"math"
	"slices"
	"time"
)

// intervalsKept bounds what is remembered of a function: old intervals are
// forgotten, so that what is learnt follows the function.
const intervalsKept = 256

// sample is the last values of a quantity in seconds, in the order in which
// they came and sorted.
type sample struct {
	n, next int
	ring    [intervalsKept]float32 // what is in sorted is rounded likewise
	sorted  [intervalsKept]float64
}

func (s *sample) values() []float64 { return s.sorted[:s.n] }

func (s *sample) add(v float64) {
	v = float64(float32(v))
	if s.n == intervalsKept {
		s.forget(float64(s.ring[s.next]))
	}
	at, _ := slices.BinarySearch(s.values(), v)
	copy(s.sorted[at+1:s.n+1], s.sorted[at:s.n])
	s.sorted[at] = v
	s.n++
	s.ring[s.next] = float32(v)
	s.next = (s.next + 1) % intervalsKept
}

func (s *sample) forget(v float64) {
	at, _ := slices.BinarySearch(s.values(), v)
	copy(s.sorted[at:s.n-1], s.sorted[at+1:s.n])
	s.n--
}

// trim forgets all but the last n values.
func (s *sample) trim(n int) {
	for s.n > n {
		s.forget(float64(s.ring[(s.next-s.n+2*intervalsKept)%intervalsKept]))
	}
}

// quantile is the smallest value that a share q of the sample does not exceed,
// as if one more value above all others were in it: what the next value stays
// below with probability q or more. It is infinite where the sample is too
// small to say.
func (s *sample) quantile(q float64) float64 {
	i := int(math.Ceil(q * float64(s.n+1)))
	switch {
	case i > s.n:
		return math.Inf(1)
	case i < 1:
		return math.Inf(-1)
	}
	return s.sorted[i-1]
}

// seconds as a time; what does not fit is Forever.
func seconds(s float64) time.Duration {
	if s >= Forever.Seconds() {
		return Forever
	}
	return time.Duration(s * float64(time.Second))
}
