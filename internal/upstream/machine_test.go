package upstream

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"eproxy/internal/config"
)

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
}

// world is pods as they really are, and a machine that is to find out.
type world struct {
	*Machine
	t         *testing.T
	now       time.Time
	functions []*config.Function
	broken    map[ID]bool
	noticed   map[ID][]State // since the latest step
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Unix(1, 0), broken: make(map[ID]bool), noticed: make(map[ID][]State)}
	w.Machine = NewMachine(func(p Pod) { w.noticed[p.ID] = append(w.noticed[p.ID], p.State) })
	return w
}

// want has the machine want what the functions say: those of which nothing has changed are the same ones.
func (w *world) want() {
	functions := make([]*config.Function, len(w.functions))
	for i, fn := range w.functions {
		if old := w.Machine.functions[fn.Name]; old != nil && reflect.DeepEqual(old, fn) {
			functions[i] = old
			continue
		}
		now := *fn
		now.Pods, now.Drain, now.Identities = slices.Clone(fn.Pods), slices.Clone(fn.Drain), maps.Clone(fn.Identities)
		functions[i] = &now
	}
	w.Want(functions, w.now)
}

// pass lets time go by, and probes end.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for {
		for _, x := range w.Due(w.now) {
			var err error
			if w.broken[x.ID] {
				err = errors.New("connection refused")
			}
			w.Probed(x, err, w.now)
		}
		next, ok := w.Next()
		if !ok || next.After(end) {
			break
		}
		if !next.After(w.now) {
			w.t.Fatalf("a probe that was due at %s is due again", next)
		}
		w.now = next
	}
	w.now = end
}

// state of a pod of function f.
func (w *world) state(i int) State {
	for _, p := range w.Pods() {
		if p.ID == (ID{"f", addr(i)}) {
			return p.State
		}
	}
	return 0
}

func (w *world) fail(i, times int) {
	for range times {
		w.Failed(ID{"f", addr(i)}, 0, "no response", w.now)
	}
}

// TestLife steps through the life of a pod.
func TestLife(t *testing.T) {
	w := newWorld(t)
	fn := &config.Function{Name: "f", Pods: []netip.AddrPort{addr(1), addr(2)}, Probe: "/healthz"}
	w.functions = []*config.Function{fn}
	w.broken[ID{"f", addr(1)}] = true
	w.want()
	check := func(what string, first, second State) {
		t.Helper()
		if a, b := w.state(1), w.state(2); a != first || b != second {
			t.Fatalf("%s: %v, %v; want %v, %v", what, a, b, first, second)
		}
	}
	check("at first", Discovered, Discovered)
	w.pass(0)
	check("probed once", Discovered, Ready)
	w.broken[ID{"f", addr(1)}] = false
	w.pass(eagerly)
	check("probed again", Ready, Ready)
	w.fail(1, failureLimit-1)
	w.Succeeded(ID{"f", addr(1)})
	w.fail(1, failureLimit-1)
	check("failures that are not in a row", Ready, Ready)
	w.Failed(ID{"f", addr(1)}, 1, "no response", w.now) // it has answered one elsewhere meanwhile
	check("a failure after a success elsewhere", Ready, Ready)
	for range failureLimit - 1 {
		w.Failed(ID{"f", addr(1)}, 1, "no response", w.now)
	}
	check("failures in a row", Suspect, Ready)
	w.fail(2, 2*failureLimit)
	check("the other pod fails, too", Suspect, Ready)
	w.pass(restMin - 1)
	check("rests", Suspect, Ready)
	w.pass(1)
	check("has rested", Ready, Ready)
	fn.Drain = []netip.AddrPort{addr(2)}
	w.want()
	check("drained", Ready, Drained)
	fn.Drain = nil
	w.want()
	check("no longer drained", Ready, Discovered)
	w.pass(0)
	w.fail(1, failureLimit)
	check("fails again", Suspect, Ready)
	w.pass(restMin)
	check("rests for longer", Suspect, Ready)
	fn.Pods = []netip.AddrPort{addr(1)}
	w.want()
	check("is the only one", Ready, 0)
	fn.Paused = true
	w.want()
	if w.Serves(ID{"f", addr(1)}) {
		t.Error("a pod of a paused function gets messages")
	}
}

// TestProbesSlowDown: a pod whose probe fails is probed every 20 ms at first, then
// ever less often.
func TestProbesSlowDown(t *testing.T) {
	w := newWorld(t)
	w.functions = []*config.Function{{Name: "f", Pods: []netip.AddrPort{addr(1)}, Probe: config.ProbeTCP}}
	w.want()
	last, gaps := w.now, []time.Duration(nil)
	for range eagerTries + 20 {
		at, ok := w.Next()
		if !ok {
			t.Fatal("no probe is due")
		}
		gaps = append(gaps, at.Sub(last))
		last, w.now = at, at
		w.Probed(w.Due(at)[0], errors.New("refused"), at)
	}
	if gaps[1] != eagerly || gaps[eagerTries-1] != eagerly || gaps[len(gaps)-1] != slowly || !slices.IsSorted(gaps) {
		t.Errorf("probes after %v", gaps)
	}
}

// TestStaleProbe: a probe of a pod that has gone says nothing of the one that has its
// address since.
func TestStaleProbe(t *testing.T) {
	w := newWorld(t)
	fn := &config.Function{Name: "f", Pods: []netip.AddrPort{addr(1)}, Probe: config.ProbeTCP}
	w.functions = []*config.Function{fn}
	w.want()
	stale := w.Due(w.now)[0]
	w.functions = nil
	w.want()
	w.functions = []*config.Function{fn}
	w.want()
	w.Probed(stale, nil, w.now)
	if s := w.state(1); s != Discovered {
		t.Errorf("the new pod is %v", s)
	}
}

// TestReusedAddress: a pod that has the address of another is a new one: it is probed, what the
// other has failed is not its own, and neither is that it rests. An identity that a source does not
// know, or comes to know, makes no other pod.
func TestReusedAddress(t *testing.T) {
	w := newWorld(t)
	fn := &config.Function{Name: "f", Pods: []netip.AddrPort{addr(1), addr(2)}, Probe: config.ProbeTCP}
	w.functions = []*config.Function{fn}
	is := func(identity string, want State) {
		t.Helper()
		fn.Identities = config.Identities{addr(1): identity}
		w.want()
		if s := w.state(1); s != want {
			t.Errorf("with the identity %q the pod is %v, want %v", identity, s, want)
		}
	}
	is("", Discovered)
	w.pass(time.Second)
	is("", Ready)
	is("one", Ready) // the source has come to know it
	is("", Ready)
	is("one", Ready)
	is("two", Discovered)
	w.pass(time.Second)
	for range failureLimit {
		w.Failed(ID{"f", addr(1)}, 0, "no response", w.now)
	}
	is("two", Suspect)
	is("three", Discovered)
}

// TestRefusedConfigurationChangesNothing: what a configuration would have changed that could
// not be had is as before: pods that it did not have, or that it would have drained, get messages.
func TestRefusedConfigurationChangesNothing(t *testing.T) {
	w := newWorld(t)
	pods := []netip.AddrPort{addr(1), addr(2), addr(3), addr(4)}
	w.functions = []*config.Function{{Name: "f", Pods: pods[:3], Probe: config.ProbeTCP}}
	w.broken[ID{"f", addr(3)}] = true
	w.want()
	w.pass(0)
	w.now = w.now.Add(eagerly)
	unheard := w.Due(w.now)[0]
	before := w.Pods()
	w.Want([]*config.Function{{Name: "f", Pods: pods[1:2], Drain: pods[1:2]}}, w.now)
	if slices.Equal(w.Pods(), before) {
		t.Fatal("nothing would change")
	}
	w.Probed(unheard, errors.New("refused"), w.now)
	w.restore()
	w.filed("restored")
	w.want()
	if after := w.Pods(); !slices.Equal(after, before) {
		t.Errorf("%v\nbecame %v", before, after)
	}
	w.broken[ID{"f", addr(3)}] = false
	w.pass(slowly)
	if s := w.state(3); s != Ready {
		t.Errorf("the pod that was not ready is %v for good", s)
	}
}

// change does something at random. It returns the function that it may touch.
func (w *world) change(rng *rand.Rand) string {
	fn := w.functions[rng.IntN(len(w.functions))]
	id := ID{fn.Name, addr(1 + rng.IntN(6))}
	switch rng.IntN(10) {
	case 8:
		fn.Paused = !fn.Paused
		w.want()
	case 9: // a configuration that could not be had
		none := []*config.Function{{Name: fn.Name, Pods: []netip.AddrPort{addr(1 + rng.IntN(6))}, Drain: []netip.AddrPort{addr(1)}}}
		w.Want(none, w.now)
		w.restore()
		w.filed("restored")
		clear(w.noticed)
		w.want()
	case 0, 1:
		if i := slices.Index(fn.Pods, id.Address); i >= 0 {
			fn.Pods = slices.Delete(fn.Pods, i, i+1)
		} else {
			fn.Pods = append(fn.Pods, id.Address)
		}
		w.want()
	case 2:
		if i := slices.Index(fn.Drain, id.Address); i >= 0 {
			fn.Drain = slices.Delete(fn.Drain, i, i+1)
		} else {
			fn.Drain = append(fn.Drain, id.Address)
		}
		w.want()
	case 3:
		fn.Probe = []string{"", config.ProbeTCP, "/x"}[rng.IntN(3)]
		w.want()
	case 4:
		w.broken[id] = !w.broken[id]
		return "" // nobody knows yet
	case 5, 6:
		for range 1 + rng.IntN(2*failureLimit) {
			w.Failed(id, uint64(rng.IntN(2)), "no response", w.now)
		}
	case 7:
		w.Succeeded(id)
		return ""
	}
	return fn.Name
}

// TestModel: whatever happens, the machine knows the pods that are wanted and no
// others, at most half of a function's pods rest, somebody gets the messages if
// anybody can, a change touches pods of its own function only, and nothing is touched
// where nothing has changed. When nothing happens any more, all pods that work are
// ready.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		w := newWorld(t)
		for i := range 3 {
			w.functions = append(w.functions, &config.Function{Name: string(rune('f' + i)), Probe: []string{"", "/x"}[rng.IntN(2)]})
		}
		for step := range 200 {
			clear(w.noticed)
			touched := w.change(rng)
			for id := range w.noticed {
				if id.Function != touched {
					t.Fatalf("seed %d: a change of %q has touched %v", seed, touched, id)
				}
			}
			clear(w.noticed)
			w.want() // once more: a source that says the same
			if len(w.noticed) > 0 {
				t.Fatalf("seed %d: touched although nothing has changed: %v", seed, w.noticed)
			}
			w.pass(time.Duration(rng.Int64N(int64(time.Second))))
			w.check(fmt.Sprintf("seed %d step %d", seed, step))
		}
		for _, fn := range w.functions { // what is broken stays broken
			for _, a := range fn.Pods {
				if !w.broken[ID{fn.Name, a}] {
					w.Succeeded(ID{fn.Name, a})
				}
			}
		}
		w.pass(2 * restMost)
		w.settled(seed)
	}
}

// filed tests that what is asked of all pods is answered as if all were looked at.
func (w *world) filed(when string) {
	w.t.Helper()
	unserved, failing := make(map[ID]bool), false
	for id, p := range w.pods {
		failing = failing || p.failures > 0
		if p.State != Ready || w.paused[id.Function] {
			unserved[id] = true
		}
	}
	told := make(map[ID]bool)
	for _, p := range w.Unserved() {
		told[p.ID] = true
	}
	if !maps.Equal(told, unserved) || w.Failing() != failing {
		w.t.Fatalf("%s: unserved are %v, and told of are %v; some pod fails: %v, told %v", when, unserved, told, failing, w.Failing())
	}
}

// check tests what is always so.
func (w *world) check(when string) {
	w.t.Helper()
	w.filed(when)
	known := make(map[ID]State)
	for _, p := range w.Pods() {
		known[p.ID] = p.State
	}
	wanted := 0
	for _, fn := range w.functions {
		n := make(map[State]int)
		for _, a := range fn.Pods {
			wanted++
			s := known[ID{fn.Name, a}]
			n[s]++
			if (s == Drained) != slices.Contains(fn.Drain, a) {
				w.t.Fatalf("%s: %s of %s is %v, drained: %v", when, a, fn.Name, s, fn.Drain)
			}
			if s == Discovered && fn.Probe == "" {
				w.t.Fatalf("%s: %s of %s waits for a probe, and has none", when, a, fn.Name)
			}
		}
		if n[0] > 0 || n[Suspect] > 0 && n[Ready] == 0 {
			w.t.Fatalf("%s: function %s has pods %v", when, fn.Name, n)
		}
	}
	if len(known) != wanted {
		w.t.Fatalf("%s: %d pods are known, %d are wanted", when, len(known), wanted)
	}
}

// settled tests what is so when nothing has happened for long.
func (w *world) settled(seed uint64) {
	w.t.Helper()
	for _, p := range w.Pods() {
		if p.State == Discovered && !w.broken[p.ID] || p.State == Suspect && !w.broken[p.ID] {
			w.t.Fatalf("seed %d: %v is %v (%s) for good", seed, p.ID, p.State, p.Reason)
		}
	}
}
