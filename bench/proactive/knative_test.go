package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"eproxy/internal/predict"
)

// predict.KPA decides as Knative's own decider does, whatever the load.
func TestKPADecidesAsKnative(t *testing.T) {
	const target = 0.7
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		k, own := newKnative(target, 1), predict.NewKPA(target)
		at, ready, level := time.Duration(r.Int64N(1e6))*time.Second, 0, 0.0
		for range 2000 {
			switch r.IntN(40) {
			case 0:
				level = 0
			case 1:
				level = 30 * r.Float64()
			case 2:
				level *= 3
			case 3: // silence
				at += time.Duration(r.IntN(90)) * time.Second
			}
			level = min(level, 100)
			v := level * (0.5 + r.Float64())
			if seed%2 == 0 { // averages at which it is decided by rounding
				v = target * float64(int(v))
			}
			k.Record(at, v, v)
			own.Record(at, v)
			at += time.Second
			want, got := k.Scale(at, ready), own.Scale(at, ready)
			if want != got {
				t.Fatalf("seed %d at %v with %d ready: %d, Knative %d", seed, at, ready, got, want)
			}
			if r.IntN(3) == 0 { // instances take their time
				ready = want
			}
		}
	}
}
