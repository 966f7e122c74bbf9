package predict

import (
	"math"
	"time"
)

// KPA is a reactive scaler by the rules of Knative's pod autoscaler
// (knative.dev/serving v0.50.0, pkg/autoscaler/scaling), on concurrency.
type KPA struct {
	// Target is the concurrency per instance that is aimed at: the container's,
	// times the target utilisation.
	Target        float64
	stable, panic window
	panicking     bool
	since         time.Duration // of the last reason to panic
	highest       int           // desired while panicking
}

// Knative's defaults (config-autoscaler).
const (
	// TargetUtilisation of a container whose concurrency is limited.
	TargetUtilisation = 0.7
	// StableWindow is what averages are taken over, unless load has doubled.
	StableWindow     = 60 * time.Second
	panicWindow      = 6 * time.Second
	panicThreshold   = 2.0
	maxScaleUpRate   = 1000.0
	maxScaleDownRate = 2.0
)

// NewKPA makes one with Knative's defaults.
func NewKPA(target float64) *KPA {
	return &KPA{Target: target, stable: window{size: int64(StableWindow / time.Second)}, panic: window{size: int64(panicWindow / time.Second)}}
}

// TargetOf is the concurrency that is aimed at for instances of so many requests at a time.
func TargetOf(concurrency int) float64 { return max(1, TargetUtilisation*float64(concurrency)) }

// Record tells of the average concurrency in the second that begins at at.
func (k *KPA) Record(at time.Duration, concurrency float64) {
	k.stable.record(int64(at/time.Second), concurrency)
	k.panic.record(int64(at/time.Second), concurrency)
}

// Scale is how many instances there should be, of which ready are now.
func (k *KPA) Scale(at time.Duration, ready int) int {
	second, current := int64(at/time.Second), math.Max(1, float64(ready))
	most, least := math.Ceil(maxScaleUpRate*current), math.Floor(current/maxScaleDownRate)
	stable := math.Ceil(k.stable.average(second) / k.Target)
	panic := math.Ceil(k.panic.average(second) / k.Target)
	desired := int(min(max(stable, least), most))
	switch over := panic/current >= panicThreshold; {
	case over:
		k.panicking, k.since = true, at
	case k.panicking && k.since+StableWindow < at:
		k.panicking, k.highest = false, 0
	}
	if k.panicking { // nothing is taken away
		k.highest = max(k.highest, desired, int(min(max(panic, least), most)))
		return k.highest
	}
	return desired
}

// Concurrency is the average that counts: that of the stable window, or of the panic window
// if that is higher.
func (k *KPA) Concurrency(at time.Duration) float64 {
	second := int64(at / time.Second)
	return max(k.stable.average(second), k.panic.average(second))
}

// Quiet says that nothing was recorded within the stable window, so that Scale
// gives the same until something is.
func (k *KPA) Quiet(at time.Duration) bool {
	return !k.panicking && int64(at/time.Second)-k.stable.last >= k.stable.size
}

// window is a moving average over seconds. Seconds without a record between
// others count as 0; those before the first and after the last one do not count.
type window struct {
	size        int64
	seconds     [60]float64
	first, last int64
	any         bool
}

func (w *window) record(second int64, v float64) {
	if !w.any || second-w.last >= w.size {
		w.seconds = [60]float64{}
		w.first, w.last, w.any = second, second, true
	}
	for w.last < second {
		w.last++
		w.seconds[w.last%w.size] = 0
	}
	w.seconds[second%w.size] += v
}

func (w *window) average(now int64) float64 {
	if !w.any || now-w.last >= w.size {
		return 0
	}
	late := max(0, now-w.last)
	total := 0.0
	for s := max(w.first, now-w.size+1, w.last-w.size+1); s <= w.last; s++ {
		total += w.seconds[s%w.size]
	}
	counted := min(w.last-w.first+1, w.size-late)
	return math.Round(total/float64(counted)*1e6) / 1e6 // as Knative rounds: or ceilings differ
}
