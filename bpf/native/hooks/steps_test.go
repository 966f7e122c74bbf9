//go:build cgo

package hooks

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
