//go:build cgo

package native

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// eventsPerScenario is the length of one random connection's life.
const eventsPerScenario = 1000

func envUint(t testing.TB, name string, def uint64) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// randomScenario is determined by its seed alone.
func randomScenario(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	b := make([]byte, head+4*n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// trimmed is what a hook asks before it clears FIN and PSH.
func trimmed(v *TxVerdict, s *Segment) bool { return v.cut != 0 }

// TestConnectionModel runs random connections over a hostile network against the model.
func TestConnectionModel(t *testing.T) {
	steps := envUint(t, "EPROXY_MODEL_STEPS", 10_000_000)
	seed := envUint(t, "EPROXY_MODEL_SEED", 20260101)
	t.Logf("seeds from %d, %d events", seed, steps)
	own := Own()
	var st stats
	for done := uint64(0); done < steps; seed++ {
		n := eventsPerScenario
		if seed%4 == 0 {
			n = 60
		}
		s := randomScenario(seed, n)
		events, err := run(own, s, nil, &st)
		if err != nil {
			t.Fatalf("seed %d: %v\nshrunk:\n%s", seed, err, explain(own, shrink(own, s)))
		}
		done += uint64(events)
	}
	t.Logf("%+v", st)
	if steps < 100_000 {
		return
	}
	for act := RxPass; act <= RxDrop; act++ {
		if st.actions[act] == 0 {
			t.Errorf("action %d never occurred", act)
		}
	}
	if st.inserted == 0 || st.fronts == 0 || st.bursts == 0 || st.cut == 0 || st.fins == 0 || st.lost == 0 || st.drained < st.scenarios*3/4 {
		t.Errorf("too little happened")
	}
}

// FuzzModel lets the fuzzer choose configuration and events.
func FuzzModel(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomScenario(seed, 80))
	}
	own := Own()
	f.Fuzz(func(t *testing.T, scenario []byte) {
		if len(scenario) > head+4*4000 {
			return
		}
		if _, err := run(own, scenario, nil, nil); err != nil {
			t.Fatalf("%v\n%s", err, explain(own, scenario))
		}
	})
}
