//go:build cgo

package hooks

// The scenarios. Device 0 is conn 4, device 1 is conn 5.

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
		up[0].device.arm = 0
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
