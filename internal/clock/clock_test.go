package clock

import (
	"testing"
	"time"
)

// TestMonotonicIsTheKernels: it is the kernel's clock, between any two readings of that, but for what the origin may be off.
func TestMonotonicIsTheKernels(t *testing.T) {
	for range 1000 {
		before := system()
		got := Monotonic()
		after := system()
		if slack := time.Second; got < before || got > after+slack {
			t.Fatalf("%d ns, and the kernel said %d before and %d after it", got, before, after)
		}
	}
}

// TestAgreeTakesTheNearest: readings between which something else ran do not count where there is a better one.
func TestAgreeTakesTheNearest(t *testing.T) {
	start := time.Now()
	var kernel, gone time.Duration
	gaps := []time.Duration{time.Second, 50 * time.Microsecond, time.Millisecond}
	reads := 0
	m := agree(func() time.Duration {
		if reads++; reads%2 == 0 { // the second of a try
			kernel += gaps[(reads/2-1)%len(gaps)]
			gone = kernel
		}
		return kernel
	}, func() time.Time { return start.Add(gone) })
	if off := m.on - m.at.Sub(start); off != 50*time.Microsecond {
		t.Errorf("the origin is off by %v, the best of the readings by 50µs", off)
	}
}
