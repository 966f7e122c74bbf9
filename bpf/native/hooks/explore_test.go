//go:build cgo

package hooks

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
)

// scenario is a state, and what several processors do from there.
type scenario struct {
	name            string
	slots, pipeline int
	setup           func(w *world) [][]Step
}

const forever = 1 << 31

// turn: this task runs on for so many points.
type turn struct{ task, points int }

// effort is how many schedules are tried where there are more: pairs of points
// of two tasks (fewer, in more shapes, where there is a third one), and random ones.
type effort struct{ pairs, random int }

var fullEffort = effort{pairs: 1000, random: 300}

// mustHappen are the reasons that the scenarios are about: without them they
// would have become something else.
var mustHappen = []int{ReasonResponse, ReasonDoneByAck, ReasonReinjected, ReasonPubackResent, ReasonRace, ReasonDeviceGone,
	ReasonPubackHanded, ReasonSlotRetired, ReasonDeadSocket, ReasonRedirectError, ReasonInjected, ReasonResync,
	ReasonTakenOver, ReasonDupRequest, ReasonNoSlot, ReasonRepeated, ReasonParked, ReasonUnparked, ReasonParkHanded, ReasonKept, ReasonKeptVain,
	ReasonCopied, ReasonCopiesFull, ReasonOrderUnknown, ReasonAlias}

// explorer tries schedules of one scenario.
type explorer struct {
	m     *Machine
	base  *world
	tasks [][]Step
	now   u64
	ready bool // the machine has the tasks
	seen  map[uint64]bool
	seed  maphash.Seed
	rand  *rand.Rand

	runs, overdue int
	reasons       map[int]int // what the programs counted, over all outcomes
}

func newExplorer(m *Machine, s scenario) *explorer {
	w := newWorld(m, s.slots, s.pipeline)
	e := &explorer{m: m, tasks: s.setup(w), base: w, seen: map[uint64]bool{}, reasons: map[int]int{}, seed: maphash.MakeSeed(), rand: rand.New(rand.NewPCG(1, 2))}
	e.now = m.c.now_ns
	m.Save()
	return e
}

// failure is a schedule with what it led to.
type failure struct {
	turns []turn
	fine  bool
	err   error
	trace string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%v\nschedule %v (fine: %v), tasks in order after that\n%s", f.err, f.turns, f.fine, f.trace)
}

// start runs one schedule from the scenario's state.
func (e *explorer) start(fine bool, turns []turn) {
	c := e.m.c
	e.m.Restore()
	if !e.ready {
		e.base.load(e.tasks)
		e.ready = true
	}
	c.now_ns = e.now
	c.turns = u32(len(turns))
	for i, t := range turns {
		c.turn[i].task, c.turn[i].points = u32(t.task), u32(t.points)
	}
	c.fine = 0
	if fine {
		c.fine = 1
	}
	e.m.Run()
	c.fine = 0
}

// run runs one schedule; it says at which turns a task was stopped.
func (e *explorer) run(fine bool, turns ...turn) (stopped []bool, err error) {
	e.start(fine, turns)
	e.runs++
	for i := range turns {
		stopped = append(stopped, e.m.c.stopped[i] != 0)
	}
	key := e.key()
	if e.seen[key] {
		return stopped, nil
	}
	e.seen[key] = true
	for _, r := range mustHappen {
		for h := range Hooks {
			e.reasons[r] += e.m.Reason(h, r)
		}
	}
	w := e.base.clone()
	e.ready = false
	if err = w.absorb(); err == nil {
		err = w.ledgers()
	}
	if err == nil {
		err = w.stranded()
	}
	if err == nil {
		err = w.life()
	}
	e.overdue += w.overdue
	if err != nil {
		// what followed has overwritten the records
		e.start(fine, turns)
		return stopped, &failure{turns: turns, fine: fine, err: err, trace: describe(e.m.Records())}
	}
	return stopped, nil
}

// key tells what a run led to from all others: the maps, and what left.
func (e *explorer) key() uint64 {
	var h maphash.Hash
	h.SetSeed(e.seed)
	rs := e.m.Records()
	for i := range rs {
		r := &rs[i]
		h.WriteByte(byte(r.kind))
		h.Write(frameOf(r))
		switch r.kind {
		case RecordEvent:
			v := eventOf(r)
			h.Write([]byte{byte(v.kind), byte(v.conn), byte(v.gen), byte(v.packet_id)})
			h.Write(bytesOf(v.frame[:])[:v.frame_len])
		case RecordControl:
			v := controlOf(r)
			h.Write([]byte{byte(v.op), byte(v.ok), byte(v.device), byte(v.device_gen), byte(v.packet_id)})
		case RecordParked:
			v := parkedOf(r)
			h.Write([]byte{byte(v.origin), byte(v.origin_gen), byte(v.packet_id)})
		case RecordDeviceControl:
			v := deviceControlOf(r)
			h.Write([]byte{byte(v.op), byte(v.ok), byte(v.repeated), byte(v.hold)})
		}
	}
	h.Write(e.m.Shared())
	return h.Sum64()
}

// each calls try for 0, 1, ... while it says that its task was stopped there.
func each(try func(k int) (bool, error)) error {
	for k := 0; ; k++ {
		if more, err := try(k); err != nil || !more {
			return err
		}
	}
}

func others(n int, not ...int) (rest []int) {
next:
	for i := range n {
		for _, x := range not {
			if x == i {
				continue next
			}
		}
		rest = append(rest, i)
	}
	return rest
}

// all explores the scenario.
func (e *explorer) all(ef effort) error {
	n := len(e.tasks)
	for a := range n {
		if err := e.once(a, n); err != nil {
			return err
		}
		for _, b := range others(n, a) {
			if err := e.twice(a, b, n, ef.pairs/(1+3*(n-2))); err != nil {
				return err
			}
		}
	}
	for range ef.random {
		var ts []turn
		for range 3 + e.rand.IntN(MaxTurns-2) {
			ts = append(ts, turn{e.rand.IntN(n), 1 + e.rand.IntN(1+e.rand.IntN(60))})
		}
		if _, err := e.run(e.rand.IntN(4) == 0, ts...); err != nil {
			return err
		}
	}
	return nil
}

// once stops task a once, at every access of it; the others run meanwhile, in either order.
func (e *explorer) once(a, n int) error {
	rest := others(n, a)
	for flip := range len(rest) {
		err := each(func(k int) (bool, error) {
			ts := []turn{{a, k}}
			for i := range rest {
				ts = append(ts, turn{rest[(i+flip)%len(rest)], forever})
			}
			stopped, err := e.run(true, append(ts, turn{a, forever})...)
			return stopped[0], err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// twice stops a, then b, at every pair of points, or at so many of the pairs.
func (e *explorer) twice(a, b, n, limit int) error {
	na, nb := e.length(a), e.length(b)
	shapes := []func(k, j int) []turn{
		func(k, j int) []turn { return []turn{{a, k}, {b, j}, {a, forever}, {b, forever}} },
	}
	if rest := others(n, a, b); len(rest) > 0 {
		c := rest[0]
		shapes = append(shapes,
			func(k, j int) []turn { return []turn{{a, k}, {b, j}, {c, forever}, {b, forever}, {a, forever}} },
			func(k, j int) []turn { return []turn{{a, k}, {b, forever}, {a, j}, {c, forever}, {a, forever}} },
			func(k, j int) []turn { return []turn{{a, k}, {b, j}, {c, forever}, {a, forever}, {b, forever}} })
	}
	for _, shape := range shapes {
		for p := range na * nb {
			if na*nb > limit {
				if p >= limit {
					break
				}
				p = e.rand.IntN(na * nb)
			}
			if _, err := e.run(false, shape(p%na, 1+p/na)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// length is how many points a task has when nobody interferes.
func (e *explorer) length(task int) int {
	e.start(false, []turn{{task, forever}})
	return int(e.m.c.points[task])
}

func describe(rs []Record) string {
	var b strings.Builder
	names := []string{"", "to the device", "to a pod", "to the device's socket", "to a slot's socket", "dropped", "event", "control", "device control", "taken that waited", "roused", "copy"}
	for i := range rs {
		r := &rs[i]
		fmt.Fprintf(&b, "  processor %d: %s", r.task, names[r.kind])
		switch r.kind {
		case RecordEvent:
			fmt.Fprintf(&b, " kind %d conn %d gen %d packet id %d", eventOf(r).kind, eventOf(r).conn, eventOf(r).gen, eventOf(r).packet_id)
		case RecordControl:
			fmt.Fprintf(&b, " op %d ok %d state %d number %d", controlOf(r).op, controlOf(r).ok, controlOf(r).state, controlOf(r).number)
		default:
			if s, err := parse(frameOf(r)); err == nil {
				fmt.Fprintf(&b, " seq %d ack %d flags %#x %q", s.seq, s.ack, s.flags, s.data)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
