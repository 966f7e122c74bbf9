// Package simulate plays arrivals of messages to the policies of
// internal/predict, and to others for comparison, in simulated time.
package simulate

import (
	"slices"
	"time"
)

// Function is what is known of one function and its calls.
type Function struct {
	Name string
	// Class is what its figures are added up with.
	Class string
	// Arrivals in order, since the Unix epoch.
	Arrivals []time.Duration
	// Work is how long one call takes.
	Work time.Duration
	// Memory of an instance, MB.
	Memory float64
	// Split is when training ends. Policies learn before and after, what they do
	// is counted only after.
	Split time.Duration
	// End is until when the trace goes; the last arrival is not later.
	End time.Duration
	// Calls are all calls where Arrivals are only the first of each minute.
	Calls []time.Duration
}

// splitAtMedian ends the training at the middle arrival: a time like any other
// to whoever must not look ahead.
func (f *Function) splitAtMedian() {
	f.Split = f.Arrivals[len(f.Arrivals)/2]
	f.End = f.Arrivals[len(f.Arrivals)-1]
}

// Tested is how many arrivals count.
func (f *Function) Tested() int {
	at, _ := slices.BinarySearch(f.Arrivals, f.Split)
	return len(f.Arrivals) - at
}
