//go:build cgo

package hooks

// The scenarios. Device 0 is conn 4, device 1 is conn 5.

// send is what a device has sent last, from message m on, in one segment.
func (w *world) send(m int, xdp bool) Step {
	d := &w.devs[w.msgs[m].dev]
	return w.fromDevice(d.segment(w.msgs[m].off, uint32(len(d.stream))), xdp)
}

// open publishes a message; its request has left.
func (w *world) open(dev int, pid uint16, name string) int {
	m := w.publish(dev, pid, 1, payload(name, 70))
	w.do(w.send(m, true))
	w.m.c.now_ns += 1e6
	return m
}

// responseFrame: the pod answers its oldest request.
func (w *world) responseFrame(pod int) Step {
	p := &w.pods[pod]
	n := uint32(len(p.out))
	if !w.response(p) {
		panic("nothing to answer")
	}
	return w.fromPod(p.segment(n, uint32(len(p.out))))
}

// surplus: the pod sends a response more than it has requests, with all that it has said so far.
func (w *world) surplus(pod int) Step {
	p := &w.pods[pod]
	p.out = append(p.out[:len(p.out):len(p.out)], response...)
	return w.fromPod(p.segment(0, uint32(len(p.out))))
}

// flowing: slot 0 has just answered one message of the device and carries
// another: it is where the next one goes, although slot 1 is idle.
func (w *world) flowing(dev int) {
	if p := w.m.Pod(0); p.concurrency > 1 {
		p.reserved = 2
	}
	w.open(dev, 5, "answered")
	w.open(dev, 6, "before")
	w.do(w.responseFrame(0))
	w.m.Pod(0).reserved = 0
}

// twoResponses: messages of two devices are in flight, and answered in one segment.
func (w *world) twoResponses() Step {
	a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
	w.open(a, 7, "one")
	w.open(b, 7, "two")
	p := &w.pods[0]
	w.response(p)
	w.response(p)
	return w.fromPod(p.segment(0, uint32(2*len(response))))
}

// again is a device's reset and its next generation on the same 4-tuple, with
// its first message.
func (w *world) again(old, conn int, pid uint16, xdp bool) []Step {
	d := &w.devs[old]
	n := uint32(len(d.stream))
	end := d.segment(n, n)
	end.flags = rst
	steps := append([]Step{w.fromDevice(end, xdp), w.synAck(old)}, w.forget(old)...)
	dev, up := w.connect(conn, d.client, d.at.port)
	m := w.publish(dev, pid, 1, payload("second life", 60))
	w.greeted(dev)
	return append(append(steps, up...), w.send(m, xdp))
}

// greeted: the device has received its CONNACK before it sends.
func (w *world) greeted(dev int) {
	for _, b := range connack {
		w.devs[dev].got = append(w.devs[dev].got, int16(b))
	}
}

// successor is another device that gets the entry of dev, has chosen the same
// first sequence numbers, and sends a message as long as dev's first one to the
// same topic.
func (w *world) successor(dev int, xdp bool) []Step {
	d := w.devs[dev]
	steps := w.forget(dev)
	next, up := w.connectAs(d.conn, "d9", d.at.port+1, d.iss, d.niss)
	w.devs[next].topic = d.topic
	m := w.publish(next, 7, 1, payload("one", 70))
	w.greeted(next)
	return append(append(steps, up...), w.send(m, xdp))
}

func (w *world) redial(pod int) []Step {
	slot := w.pods[pod].conn
	return append(w.hangUp(pod), w.dial(slot)...)
}

// calm: the sweeper has looked at everything, and its timer runs for a last time.
func (w *world) calm() {
	w.do(Step{kind: StepSweep})
	if w.m.Attention() != 0 || !w.m.TimerRuns() {
		panic("something is left to be looked at")
	}
}

func (w *world) takeOver(pod int) Step {
	p := &w.pods[pod]
	return Step{kind: StepControl, index: u32(p.conn), gen: u32(p.gen), op: OpTakeOver}
}

// deviceControl: userspace ends the session, or the rights to all topics.
func (w *world) deviceControl(dev int, op u32) Step {
	d := &w.devs[dev]
	return Step{kind: StepDeviceControl, index: u32(d.conn), gen: u32(d.gen), op: op}
}

// hold: userspace gets a message with this packet identifier, passed by the programs.
func (w *world) hold(dev int, pid uint16, dup bool) Step {
	s := w.deviceControl(dev, OpHold)
	s.packet_id = u32(pid)
	if dup {
		s.dup = 1
	}
	return s
}

// reuse: the device has two messages in flight with one packet identifier, on two
// slots. It believes the first one to be over.
func (w *world) reuse(pid uint16) {
	d := w.device(4, "d0", 40000)
	w.msgs[w.open(d, pid, "one")].reused = true
	w.open(d, pid, "two")
}

func (w *world) control(pod int, op u32) Step {
	p := &w.pods[pod]
	return Step{kind: StepControl, index: u32(p.conn), gen: u32(p.gen), op: op}
}

// cut is four messages of a device: half of the first one has been passed to
// the socket, which has not acknowledged it; then come a segment with its other
// half, the second one and half of the third, and a segment with what is left.
func (w *world) cut(dev int, xdp bool) (f, g Step) {
	d := &w.devs[dev]
	var half [4]uint32
	for i, name := range []string{"begun", "whole", "third", "last"} {
		m := &w.msgs[w.publish(dev, uint16(30+i), 1, payload(name, 60+10*i+dev))]
		half[i] = m.off + uint32(len(m.raw))/2
	}
	w.do(w.fromDevice(d.segment(0, half[0]), xdp))
	return w.fromDevice(d.segment(half[0], half[2]), xdp), w.fromDevice(d.segment(half[2], uint32(len(d.stream))), xdp)
}

// gap is two messages of a device, each in a segment of its own; what is open before stays so.
func (w *world) gap(dev int, xdp bool) (first, second Step) {
	m, n := w.publish(dev, 30, 1, payload("first", 60)), w.publish(dev, 31, 1, payload("second", 80))
	d := &w.devs[dev]
	return w.fromDevice(d.segment(w.msgs[m].off, w.msgs[n].off), xdp), w.send(n, xdp)
}

var scenarios = append([]scenario{
	{"device reconnects while its response comes", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "first life")
		return [][]Step{{w.responseFrame(0)}, w.again(d, 4, 7, true)}
	}},
	{"entry is used again before its former owner is forgotten, XDP", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		next := w.successor(d, true)
		return [][]Step{next[:1], next[1:]}
	}},
	{"device reconnects on another entry while its response comes", 2, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "first life")
		return [][]Step{{w.responseFrame(0)}, w.again(d, 5, 7, false)}
	}},
	{"slot is dialled again while its response comes", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		f := w.responseFrame(0)
		return [][]Step{{f}, w.redial(0)}
	}},
	{"response while userspace takes the message over", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		f := w.responseFrame(0)
		return [][]Step{{f}, append([]Step{w.takeOver(0)}, w.redial(0)...)}
	}},
	{"response while userspace takes over, several in flight", 1, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		w.open(b, 7, "two")
		f := w.responseFrame(0)
		return [][]Step{{f}, append([]Step{w.takeOver(0)}, w.redial(0)...)}
	}},
	{"two responses at once while the oldest message is taken over", 1, 4, func(w *world) [][]Step {
		return [][]Step{{w.twoResponses()}, append([]Step{w.takeOver(0)}, w.redial(0)...)}
	}},
	{"two responses at once while the next request is made", 1, 4, func(w *world) [][]Step {
		f := w.twoResponses()
		w.device(6, "d2", 40002)
		m := w.publish(2, 7, 1, payload("three", 90))
		return [][]Step{{f}, {w.send(m, true)}, {f}}
	}},
	{"message is taken over while the next one is made", 1, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		m := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{w.send(m, true)}, append([]Step{w.takeOver(0)}, w.redial(0)...)}
	}},
	{"pod acknowledges the request while it answers and the device repeats it", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		m := w.open(d, 7, "one")
		w.m.c.now_ns += 250e6
		ack := w.fromPod(w.pods[0].segment(0, 0))
		return [][]Step{{ack}, {w.responseFrame(0)}, {w.send(m, false)}}
	}},
	{"pod acknowledges the request while it is taken over", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		ack := w.fromPod(w.pods[0].segment(0, 0))
		return [][]Step{{ack}, append([]Step{w.takeOver(0)}, w.redial(0)...)}
	}},
	{"function refuses while the next request is made", 1, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		p := &w.pods[0]
		p.say(refusal)
		m := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{w.fromPod(p.segment(0, uint32(len(refusal))))}, {w.send(m, true)}, {w.takeOver(0)}}
	}},
	{"pod closes while the slot is claimed", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		m := w.publish(d, 7, 1, payload("one", 60))
		return [][]Step{{w.fromPod(w.pods[0].end(fin))}, {w.send(m, true)}}
	}},
	{"pod answers and closes while the next request is made", 1, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		f := w.responseFrame(0)
		m := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{f}, {w.fromPod(w.pods[0].end(fin))}, {w.send(m, true)}}
	}},
	{"pod resets while the next request is made and the first repeated", 1, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		one := w.open(a, 7, "one")
		w.m.c.now_ns += 250e6
		m := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{w.fromPod(w.pods[0].end(rst))}, {w.send(m, true)}, {w.send(one, false)}}
	}},
	{"two parts of a response", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		w.responseFrame(0)
		p, n := &w.pods[0], uint32(len(response))
		return [][]Step{{w.fromPod(p.segment(0, n-1))}, {w.fromPod(p.segment(n-1, n))}}
	}},
	{"response is repeated while the slot is claimed again", 1, 1, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		f := w.responseFrame(0)
		m := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{f}, {f}, {w.send(m, true)}}
	}},
	{"response is repeated while the next request is in flight", 1, 1, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		f := w.responseFrame(0)
		w.do(f)
		w.open(b, 7, "two")
		g := w.responseFrame(0)
		return [][]Step{{f}, {g}}
	}},
	{"device repeats its message while it is answered and the slot reused", 1, 1, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		one := w.open(a, 7, "one")
		w.m.c.now_ns += 250e6
		f := w.responseFrame(0)
		m := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{w.send(one, false)}, {f, w.send(m, true)}}
	}},
	{"device repeats its message while it is answered, several in flight", 1, 2, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		one := w.open(a, 7, "one")
		w.open(b, 7, "two")
		w.m.c.now_ns += 250e6
		f := w.responseFrame(0)
		m := w.publish(b, 8, 1, payload("three", 90))
		return [][]Step{{w.send(one, false)}, {f}, {w.send(m, false)}}
	}},
	{"PUBACK is repeated while the next one is inserted", 2, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		w.open(d, 8, "two")
		w.do(w.responseFrame(0))
		w.m.c.now_ns += 400e6
		n := uint32(len(w.devs[d].stream))
		return [][]Step{{{kind: StepSweep}}, {w.responseFrame(1)}, {w.fromDevice(w.devs[d].segment(n, n), true)}}
	}},
	{"PUBACK is repeated while the device reconnects", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "first life")
		w.do(w.responseFrame(0))
		w.m.c.now_ns += 400e6
		return [][]Step{{{kind: StepSweep}}, w.again(d, 4, 7, true)}
	}},
	{"the sweeper looks at a slot while a message is taken, XDP", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.do(w.control(0, OpClose+1)) // which does nothing, but the sweeper looks
		m := w.publish(d, 7, 1, payload("one", 70))
		return [][]Step{{{kind: StepSweep}}, {w.send(m, true)}}
	}},
	{"the sweeper stops while a message is taken, XDP", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.calm()
		m := w.publish(d, 7, 1, payload("one", 70))
		return [][]Step{{{kind: StepSweep}}, {w.send(m, true)}}
	}},
	{"the sweeper stops while the response comes", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		f := w.responseFrame(0)
		return [][]Step{{{kind: StepSweep}, {kind: StepSweep}}, {f}}
	}},
	{"response that nobody asked for on a slot that nobody looks after", 1, 1, func(w *world) [][]Step {
		w.calm()
		return [][]Step{{w.surplus(0)}, {{kind: StepSweep}}}
	}},
	{"message of a slot is taken over, and nothing else happens", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		return [][]Step{{w.takeOver(0)}, {{kind: StepSweep}}}
	}},
	{"slot's socket is found dead, and nothing else happens, XDP", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.calm()
		m := w.publish(d, 7, 1, payload("one", 70))
		return [][]Step{{{kind: StepSocket, index: 0}, w.send(m, true)}, {{kind: StepSweep}}}
	}},
	{"the socket sends while a PUBACK is inserted", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		f := w.responseFrame(0)
		w.m.c.now_ns += 10e6
		return [][]Step{{f}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(connack))}}
	}},
	{"the socket closes while a PUBACK is inserted", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		f := w.responseFrame(0)
		w.m.c.now_ns += 10e6
		s := w.devs[d].localSegment(nil)
		s.flags |= fin
		w.devs[d].dead = true
		return [][]Step{{f}, {frameStep(StepLocalFrame, 1, s)}}
	}},
	{"userspace names a message boundary while a message comes", 1, 1, func(w *world) [][]Step {
		d, up := w.connect(4, "d0", 40000)
		up[0].device.at_boundary = 0
		w.do(up...)
		m := w.publish(d, 7, 1, payload("one", 60))
		w.do(w.send(m, true))
		w.do(frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil)))
		boundary := Step{kind: StepDeviceControl, op: OpBoundary, index: 4, gen: u32(w.devs[d].gen), read: u64(len(w.devs[d].local))}
		return [][]Step{{boundary}, {w.send(w.publish(d, 8, 1, payload("two", 60)), true)}}
	}},
	{"first message of a segment is answered before the last has left", 3, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		m := w.publish(d, 7, 1, payload("one", 60))
		w.publish(d, 8, 1, payload("two", 60))
		w.publish(d, 9, 1, payload("three", 60))
		// the function will have answered the first one when its response comes
		p := &w.pods[0]
		w.msgs[m].answered = true
		p.say(response)
		s := p.segment(0, uint32(len(response)))
		s.ack += uint32(len(w.msgs[m].head) + 20 + len(w.msgs[m].tail))
		f := w.fromPod(s)
		f.after = 1
		return [][]Step{{w.send(m, false)}, {f}}
	}},
	{"repetition comes to the server while its original is answered", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		return [][]Step{{w.responseFrame(0)}, {w.hold(d, 7, true)}}
	}},
	{"repetition comes to the server while its original is answered and the socket sends", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		f := w.responseFrame(0)
		w.m.c.now_ns += 10e6
		return [][]Step{{f}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(connack))}, {w.hold(d, 7, true)}}
	}},
	{"repetition comes to the server while its original is taken over", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		w.open(d, 7, "one")
		return [][]Step{{w.hold(d, 7, true)}, append([]Step{w.takeOver(0)}, w.redial(0)...)}
	}},
	{"packet identifier is used again while the first message is answered", 2, 1, func(w *world) [][]Step {
		w.reuse(7)
		return [][]Step{{w.responseFrame(0)}, {w.responseFrame(1)}}
	}},
	{"packet identifier is used again while the first message is taken over", 2, 1, func(w *world) [][]Step {
		w.reuse(7)
		return [][]Step{append([]Step{w.takeOver(0)}, w.redial(0)...), {w.responseFrame(1)}}
	}},
	{"packet identifier is used again while the server gets a message with another one", 2, 1, func(w *world) [][]Step {
		w.reuse(7)
		return [][]Step{{w.responseFrame(0)}, {w.hold(0, 8, false)}, {w.responseFrame(1)}}
	}},
	{"several messages of a segment follow each other while the slot is retired", 2, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.flowing(a)
		m := w.publish(a, 7, 1, payload("one", 60))
		w.publish(a, 8, 1, payload("two", 60))
		w.publish(a, 9, 1, payload("three", 60))
		n := w.publish(b, 7, 1, payload("other", 70))
		return [][]Step{{w.send(m, false)}, w.redial(0), {w.send(n, true)}}
	}},
	{"message of a slot that was dialled again is taken over", 1, 1, func(w *world) [][]Step {
		d := w.device(4, "d0", 40000)
		m := w.publish(d, 7, 1, payload("one", 60))
		stale := w.takeOver(0)
		return [][]Step{{stale}, append(w.redial(0), w.send(m, true))}
	}},
	{"the fallback wants a place while the response comes", 1, 1, func(w *world) [][]Step {
		w.open(w.device(4, "d0", 40000), 7, "one")
		return [][]Step{{w.responseFrame(0)}, {enter}}
	}},
	{"the fallback wants a place while responses come, and the next request is made", 1, 2, func(w *world) [][]Step {
		f := w.twoResponses()
		w.device(6, "d2", 40002)
		m := w.publish(2, 7, 1, payload("three", 90))
		return [][]Step{{f}, {w.send(m, true)}, {enter}}
	}},
	{"the fallback wants a place while the message is taken over and the slot dialled again", 1, 1, func(w *world) [][]Step {
		w.open(w.device(4, "d0", 40000), 7, "one")
		return [][]Step{append([]Step{w.takeOver(0)}, w.redial(0)...), {enter}}
	}},
	{"slot is retired while it is claimed", 1, 4, func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		w.open(a, 7, "one")
		n := w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{w.send(n, true)}, append([]Step{w.control(0, OpRetire)}, w.redial(0)...), {w.responseFrame(0)}}
	}},
}, both(func(path string, xdp bool) []scenario {
	return []scenario{
		{"device reconnects while its message is taken, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("first life", 60))
			return [][]Step{{w.send(m, xdp)}, w.again(d, 4, 7, xdp)}
		}},
		{"device reconnects while its next message is taken and the first answered, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			w.open(d, 7, "first life")
			m := w.publish(d, 8, 1, payload("not yet over", 60))
			return [][]Step{{w.send(m, xdp)}, {w.responseFrame(0)}, w.again(d, 4, 7, xdp)}
		}},
		{"routes are exchanged while a head is made, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {{kind: StepReload, index: reloaded}}}
		}},
		{"another device gets the entry while a message is taken, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			w.do(w.send(w.publish(d, 0, 0, payload("one", 70)+".."), true))
			w.do(w.responseFrame(0))
			m := w.publish(d, 7, 1, payload("two", 60))
			return [][]Step{{w.send(m, xdp)}, w.successor(d, xdp)}
		}},
		{"another device gets the entry while a head is made, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, w.successor(d, xdp)}
		}},
		{"slot is dialled again and claimed while it is claimed, " + path, 1, 1, func(w *world) [][]Step {
			a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
			m, n := w.publish(a, 7, 1, payload("one", 60)), w.publish(b, 7, 1, payload("two", 61))
			return [][]Step{{w.send(m, xdp)}, append(w.redial(0), w.send(n, xdp))}
		}},
		{"slot is dialled again while it is claimed, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, w.redial(0)}
		}},
		{"slot with a message is dialled again while it is claimed, " + path, 1, 4, func(w *world) [][]Step {
			a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
			w.open(a, 7, "one")
			m := w.publish(b, 7, 1, payload("two", 90))
			return [][]Step{{w.send(m, xdp)}, w.redial(0)}
		}},
		{"two devices, one slot, " + path, 1, 1, twoPublish(xdp, 0)},
		{"two devices, two slots, " + path, 2, 1, twoPublish(xdp, 0)},
		{"two devices, one slot for four requests, " + path, 1, 4, twoPublish(xdp, 1)},
		{"two devices, room for one more, " + path, 1, 2, twoPublish(xdp, 1)},
		{"two devices, room for one more, and the oldest is answered, " + path, 1, 2, func(w *world) [][]Step {
			tasks := twoPublish(xdp, 1)(w)
			return append(tasks, []Step{w.responseFrame(0)})
		}},
		{"one device's two messages, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("one", 60))
			one := w.send(m, xdp)
			n := w.publish(d, 8, 1, payload("two", 90))
			return [][]Step{{one}, {w.send(n, xdp)}}
		}},
		{"a device's message follows its last one, and another's comes, " + path, 2, 4, func(w *world) [][]Step {
			a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
			w.flowing(a)
			m, n := w.publish(a, 8, 1, payload("two", 80)), w.publish(b, 7, 1, payload("three", 90))
			return [][]Step{{w.send(m, xdp)}, {w.send(n, xdp)}, append([]Step{w.control(0, OpRetire)}, w.redial(0)...)}
		}},
		{"message between two that are cut, which its socket acknowledges, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			f, _ := w.cut(d, xdp)
			return [][]Step{{f}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil))}}
		}},
		{"message between two that are cut, repeated, and what is behind, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			f, g := w.cut(d, xdp)
			return [][]Step{{f}, {w.fromDevice(w.devs[d].segment(0, uint32(len(w.devs[d].stream))), xdp)}, {g}}
		}},
		{"message behind a lost one, and then that one, on two processors, " + path, 2, 1, func(w *world) [][]Step {
			f, g := w.gap(w.device(4, "d0", 40000), xdp)
			return [][]Step{{f}, {g}}
		}},
		{"lost message comes again behind one that is open, which is answered, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			w.open(d, 7, "open")
			f, g := w.gap(d, xdp)
			w.do(g)
			w.do(frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil))) // asks for it
			return [][]Step{{f}, {w.responseFrame(0)}}
		}},
		{"lost message comes again, the server reads to the end, and the next one comes, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			f, g := w.gap(d, xdp)
			w.do(g)
			read := w.deviceControl(d, OpBoundary)
			read.read = u64(len(w.devs[d].stream))
			m := w.publish(d, 32, 1, payload("next", 70))
			return [][]Step{{f, read}, {w.send(m, xdp)}}
		}},
		{"cut segments in a row on two processors, " + path, 2, 4, func(w *world) [][]Step {
			f, g := w.cut(w.device(4, "d0", 40000), xdp)
			return [][]Step{{f}, {g}}
		}},
		{"cut segments in a row, which the socket acknowledges, " + path, 2, 4, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			f, g := w.cut(d, xdp)
			return [][]Step{{f, g}, {frameStep(StepLocalFrame, 1, w.devs[d].localSegment(nil))}}
		}},
		{"message between two that are cut, and its device reconnects, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			f, _ := w.cut(d, xdp)
			return [][]Step{{f}, w.again(d, 4, 7, xdp)}
		}},
		{"messages between two that are cut, of two devices, " + path, 1, 4, func(w *world) [][]Step {
			a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
			f, _ := w.cut(a, xdp)
			g, _ := w.cut(b, xdp)
			return [][]Step{{f}, {g}, append([]Step{w.control(0, OpRetire)}, w.redial(0)...)}
		}},
		{"rights end while a message on a new topic is taken, " + path, 1, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {w.deviceControl(d, OpRights)}}
		}},
		{"rights end while a message on a known topic is taken, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			w.open(d, 7, "first")
			m := w.publish(d, 8, 1, payload("second", 60))
			return [][]Step{{w.send(m, xdp)}, {w.deviceControl(d, OpRights)}}
		}},
		{"the session ends while messages are taken, " + path, 2, 4, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			w.open(d, 7, "first")
			m := w.publish(d, 8, 1, payload("second", 60))
			one := w.send(m, xdp)
			n := w.publish(d, 9, 1, payload("third", 90))
			return [][]Step{{one, w.send(n, xdp)}, {w.deviceControl(d, OpStop)}}
		}},
		{"the session ends before its CONNACK has left, and a message comes, " + path, 1, 1, func(w *world) [][]Step {
			d, up := w.connect(4, "d0", 40000)
			w.do(up[:2]...)
			w.born()
			m := w.publish(d, 7, 1, payload("one", 60))
			w.greeted(d)
			return [][]Step{{up[2], w.send(m, xdp)}, {w.deviceControl(d, OpStop)}}
		}},
		{"response that nobody asked for while a message is taken, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {w.surplus(0)}}
		}},
		{"response to one and another that nobody asked for while a message is taken, " + path, 1, 4, func(w *world) [][]Step {
			a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
			w.open(a, 7, "one")
			w.response(&w.pods[0])
			return [][]Step{{w.send(w.publish(b, 7, 1, payload("two", 60)), xdp)}, {w.surplus(0)}}
		}},
		{"the fallback wants the only place while a message is taken, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {enter}}
		}},
		{"the fallback leaves the only place and wants it again while a message is taken, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			w.do(enter)
			return [][]Step{{w.send(m, xdp)}, {leave, enter}}
		}},
		{"the fallback wants the only place while its slot is claimed and retired, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {w.control(0, OpRetire)}, {enter}}
		}},
		{"idle slot is closed while it is claimed, and dialled again, " + path, 1, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, append([]Step{w.control(0, OpClose)}, w.redial(0)...)}
		}},
		{"two devices and the fallback want the last place, " + path, 2, 1, func(w *world) [][]Step {
			tasks := twoPublish(xdp, 0)(w)
			w.do(enter)
			return append(tasks, []Step{enter})
		}},
		{"a device's message follows its last one while the fallback wants the only place, " + path, 1, 4, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			w.flowing(d)
			m := w.publish(d, 8, 1, payload("two", 80))
			return [][]Step{{w.send(m, xdp)}, {w.responseFrame(0)}, {enter}}
		}},
		{"the same message twice while the fallback wants a place, " + path, 2, 1, func(w *world) [][]Step {
			m := w.publish(w.device(4, "d0", 40000), 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {w.send(m, xdp)}, {enter, enter}}
		}},
		{"the same message twice, " + path, 2, 1, func(w *world) [][]Step {
			d := w.device(4, "d0", 40000)
			m := w.publish(d, 7, 1, payload("one", 60))
			return [][]Step{{w.send(m, xdp)}, {w.send(m, xdp)}}
		}},
	}
})...)

// The fallback wants a place for a request of its own, and gives it back.
var enter, leave = Step{kind: StepEnter}, Step{kind: StepLeave}

// both: by XDP, and by TC with pods that are reached through their interfaces' egress.
func both(f func(path string, xdp bool) []scenario) []scenario {
	tc := f("TC", false)
	for i := range tc {
		setup := tc[i].setup
		tc[i].setup = func(w *world) [][]Step {
			w.m.Pod(0).peer_ok = 0
			return setup(w)
		}
	}
	return append(f("XDP", true), tc...)
}

// twoPublish: two devices publish at the same time, with so many messages in flight already.
func twoPublish(xdp bool, open int) func(w *world) [][]Step {
	return func(w *world) [][]Step {
		a, b := w.device(4, "d0", 40000), w.device(5, "d1", 40001)
		for i := range open {
			w.open(a, uint16(20+i), "before")
		}
		m, n := w.publish(a, 7, 1, payload("one", 80)), w.publish(b, 7, 1, payload("two", 90))
		return [][]Step{{w.send(m, xdp)}, {w.send(n, xdp)}}
	}
}
