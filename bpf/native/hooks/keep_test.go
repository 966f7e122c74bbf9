//go:build cgo

package hooks

// Messages that the end of a segment cuts in two (admit/keep.h): what is checked of them, and the scenarios.

// more is a segment whose sender has more to send.
func more(s segment) segment {
	s.flags &^= psh
	return s
}

// halves: a device sends a whole message and the first bytes of the next one in one segment, and the rest of
// that with another message in a second one.
func (w *world) halves(dev int, first uint32) (f, g Step) {
	d := &w.devs[dev]
	begin := uint32(len(d.stream))
	w.publish(dev, 40, 1, payload("whole", 50))
	m := w.msgs[w.publish(dev, 41, 1, payload("cut"+d.client, 60))]
	w.publish(dev, 0, 0, payload("behind", 50))
	d = &w.devs[dev]
	at := m.off + first
	return w.fromDevice(more(d.segment(begin, at)), false), w.fromDevice(d.segment(at, uint32(len(d.stream))), false)
}

// twin is a device with the first sequence numbers and the topic of dev, so that what it sends lies at the same places.
func (w *world) twin(dev, conn int) (next int, steps []Step) {
	d := w.devs[dev]
	next, steps = w.connectAs(conn, "d9", d.at.port+1, d.iss, d.niss)
	w.devs[next].topic = d.topic
	w.greeted(next)
	return next, steps
}

// cutAt is how many bytes of a message come before its rest: its head, and some of its payload.
const cutAt = 30

func (w *world) halvesOf(conn int, client string, port uint16) (dev int, f, g Step) {
	dev = w.device(conn, client, port)
	f, g = w.halves(dev, cutAt)
	return dev, f, g
}

var keepScenarios = []scenario{
	{"two halves on two processors", 1, 4, func(w *world) [][]Step {
		_, f, g := w.halvesOf(4, "d0", 40000)
		return [][]Step{{f}, {g}}
	}},
	{"two halves, and all of it again", 1, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		return [][]Step{{f}, {g}, {w.fromDevice(w.devs[d].segment(0, uint32(len(w.devs[d].stream))), false)}}
	}},
	{"rest comes twice", 1, 4, func(w *world) [][]Step {
		_, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		return [][]Step{{g}, {g}}
	}},
	{"half that is kept comes again while its rest comes", 1, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		at := w.msgs[len(w.msgs)-2].off
		return [][]Step{{g}, {w.fromDevice(w.devs[d].segment(at, at+cutAt), false)}}
	}},
	{"what lies behind the rest comes first", 1, 4, func(w *world) [][]Step {
		d, f, _ := w.halvesOf(4, "d0", 40000)
		w.do(f)
		at, behind, end := w.msgs[len(w.msgs)-2].off+cutAt, w.msgs[len(w.msgs)-1].off, uint32(len(w.devs[d].stream))
		return [][]Step{{w.fromDevice(w.devs[d].segment(behind, end), false)}, {w.fromDevice(w.devs[d].segment(at, behind), false)}}
	}},
	{"half of a fixed header, and the rest", 1, 4, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		f, g := w.halves(d, 1)
		return [][]Step{{f, g}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil))}}
	}},
	{"what follows the rest is cut, too, and passes", 1, 4, func(w *world) [][]Step {
		d, f, _ := w.halvesOf(4, "d0", 40000)
		w.do(f)
		at, behind := w.msgs[len(w.msgs)-2].off+cutAt, w.msgs[len(w.msgs)-1].off
		g := w.fromDevice(w.devs[d].segment(at, behind+10), false)
		return [][]Step{{g}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil))}}
	}},
	{"cut in front, and cut behind", 1, 4, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		m := w.msgs[w.publish(d, 39, 1, payload("begun", 60))]
		half := m.off + uint32(len(m.raw))/2
		w.do(w.fromDevice(w.devs[d].segment(m.off, half), false))
		_, g := w.halves(d, cutAt)
		at := w.msgs[len(w.msgs)-2].off + cutAt
		return [][]Step{{w.fromDevice(more(w.devs[d].segment(half, at)), false)}, {g}}
	}},
	{"rest comes in two pieces, on two processors", 1, 4, func(w *world) [][]Step {
		d, f, _ := w.halvesOf(4, "d0", 40000)
		w.do(f)
		at, end := w.msgs[len(w.msgs)-2].off+cutAt, uint32(len(w.devs[d].stream))
		return [][]Step{{w.fromDevice(more(w.devs[d].segment(at, at+10)), false)}, {w.fromDevice(w.devs[d].segment(at+10, end), false)}}
	}},
	{"session ends while the rest comes", 1, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		return [][]Step{{g}, {w.deviceControl(d, OpStop)}}
	}},
	{"rights end while the rest comes", 1, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		return [][]Step{{g}, {w.deviceControl(d, OpRights)}}
	}},
	{"no slot for the whole message, and its socket acknowledges", 1, 1, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		return [][]Step{{g}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil))}}
	}},
	{"whole message is parked while the response comes", 1, 1, func(w *world) [][]Step {
		w.parks()
		_, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		return [][]Step{{g}, {w.responseFrame(0)}}
	}},
	{"client reconnects while the rest comes", 1, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		return [][]Step{{g}, w.again(d, 4, 7, false)}
	}},
	{"another client gets the entry, and its rest comes", 1, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		w.do(f)
		next, steps := w.twin(d, 4)
		_, rest := w.halves(next, cutAt)
		whole := w.msgs[len(w.msgs)-3]
		first := w.fromDevice(w.devs[next].segment(whole.off, whole.off+uint32(len(whole.raw))), false)
		return [][]Step{append(append(w.forget(d), steps...), first, rest), {g}}
	}},
	{"another client's half is kept in its place, and its rest comes", 2, 4, func(w *world) [][]Step {
		d, f, g := w.halvesOf(4, "d0", 40000)
		next, steps := w.twin(d, 5)
		w.do(steps...)
		w.born()
		h, _ := w.halves(next, cutAt)
		w.do(f)
		w.m.c.now_ns += 3e8 // nobody waits for the rest so long
		w.do(h)
		return [][]Step{{g}}
	}},
	{"halves of two clients, at once", 2, 4, func(w *world) [][]Step {
		_, f, g := w.halvesOf(4, "d0", 40000)
		_, h, i := w.halvesOf(5, "d1", 40001)
		return [][]Step{{f, g}, {h, i}}
	}},
}
