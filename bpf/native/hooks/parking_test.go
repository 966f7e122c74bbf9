//go:build cgo

package hooks

import (
	"bytes"
	"fmt"
	"math/bits"
)

// Messages that wait for a slot: what is checked of them, and the scenarios.

// parkingRoom is how many messages can wait, and one.
const parkingRoom = 8

// parkedSeed begins the ce-id of messages that waited.
const parkedSeed = 0xfedcba

// Userspace has the programs send what waits, takes one message, or takes all.
var (
	sendParked = Step{kind: StepParkSend}
	takeParked = Step{kind: StepParkTake}
	takeAll    = Step{kind: StepParkTake, repeat: 1}
)

// parks: messages that find no slot wait.
func (w *world) parks() {
	w.m.Parking().limit = parkingRoom
	q := w.m.Queue(0)
	q.handover_ms = 1 << 30
	q.most = parkingRoom
	copy(bytesOf(q.id_prefix[:]), fmt.Sprintf("%08x%04x", parkedSeed, 0))
}

// clients are the entries of clients that have their turn, in order.
func (w *world) clients() (entries []int) {
	p, q := w.m.Parking(), w.m.Queue(0)
	for f := range ParkFamilies {
		for k := int(q.first_turn[f]); k != 0 && len(entries) < parkingRoom; k = int(p.clients[k].turn) {
			entries = append(entries, k)
		}
	}
	return entries
}

// numbers are those of a client's messages, in order.
func (w *world) numbers(client int) (ns []int) {
	p := w.m.Parking()
	for n := int(p.clients[client].first); n != 0 && len(ns) < parkingRoom; n = int(p.next[n]) {
		ns = append(ns, n)
	}
	return ns
}

// waiting is all messages that wait.
func (w *world) waiting() (ms []*Message) {
	for _, k := range w.clients() {
		for _, n := range w.numbers(k) {
			ms = append(ms, &w.m.Parked(n).message)
		}
	}
	return ms
}

// waited says whether a slot's request is one that waited: it is done in its device's ledger.
func (w *world) waited(slot int, number uint32) bool {
	return bytes.Contains(w.m.Request(slot, number), fmt.Appendf(nil, "\r\nce-id: %08x", parkedSeed))
}

func (w *world) isOf(m *Message, d *device) bool {
	return int(m.origin) == d.conn && uint32(m.origin_gen) == d.gen
}

// queueLedgers: each message that waits is what it was, in its client's order, and they are counted.
func (w *world) queueLedgers() error {
	p, q := w.m.Parking(), w.m.Queue(0)
	n := 0
	for _, k := range w.clients() {
		last := -1
		for _, number := range w.numbers(k) {
			i, err := w.parkedMessage(number)
			if err != nil {
				return fmt.Errorf("message %d that waits: %w", number, err)
			}
			if w.msgs[i].dev == w.msgs[max(last, 0)].dev && i <= last {
				return fmt.Errorf("message %d waits in front of message %d", last, i)
			}
			last = i
			n++
		}
	}
	if n != int(q.count) || n != int(p.used) {
		return fmt.Errorf("%d messages wait, the queue says %d, of %d in use", n, q.count, p.used)
	}
	if n > 0 && p.attended[0]&1 == 0 {
		return fmt.Errorf("%d messages wait, and nobody looks after them", n)
	}
	return nil
}

// parkedMessage is the message whose entry has this number.
func (w *world) parkedMessage(number int) (int, error) {
	e := w.m.Parked(number)
	m := &e.message
	dev, d := w.of(uint32(m.origin), uint32(m.origin_gen))
	if d == nil {
		return 0, fmt.Errorf("of device %d, generation %d, which never was", m.origin, m.origin_gen)
	}
	b := bytesOf(e.buf[:])[:m.request_len]
	for i := range w.msgs {
		if w.msgs[i].dev != dev || !w.msgs[i].matches(b) {
			continue
		}
		if d.iss+w.msgs[i].off != uint32(m.origin_position) || w.msgs[i].pid != uint16(m.packet_id) || w.msgs[i].qos != byte(m.qos) {
			return 0, fmt.Errorf("is message %d, but seq %d, packet id %d, QoS %d", i, m.origin_position, m.packet_id, m.qos)
		}
		if w.msgs[i].sent+w.msgs[i].taken > 0 {
			return 0, fmt.Errorf("message %d waits, but was sent or taken", i)
		}
		return i, nil
	}
	return 0, fmt.Errorf("holds no message's request: %q", b)
}

// stranded says whether a message waits while a slot is free for it.
func (w *world) stranded() error {
	if err := w.overslept(); err != nil {
		return err
	}
	p := w.m.Pod(0)
	full := bits.OnesCount64(uint64(p.busy))+int(p.fallback) >= int(p.concurrency)
	if n := w.m.Queue(0).count; n > 0 && !w.vain && p.up == PodUp && !full && p.idle&^p.reserved != 0 {
		return fmt.Errorf("%d messages wait, and slots %#x are idle", n, p.idle)
	}
	return nil
}

// takenParked: userspace has a message that waited, and its bytes.
func (w *world) takenParked(m *Message, b []byte) error {
	dev, _ := w.of(uint32(m.origin), uint32(m.origin_gen))
	for i := range w.msgs {
		if w.msgs[i].dev == dev && w.msgs[i].matches(b) {
			return w.taken(i, uint16(m.packet_id), held{uint32(m.origin), uint32(m.origin_gen), uint32(m.hold)})
		}
	}
	return fmt.Errorf("taken that waited for device %d, packet id %d, but with these bytes: %q", dev, m.packet_id, b)
}

// tendParked does what internal/dataplane does about messages that wait.
func (w *world) tendParked(late bool) error {
	if !w.parked && !late {
		return nil
	}
	w.parked = false
	if err := w.run(sendParked); err != nil {
		return err
	}
	if late || w.m.Pod(0).up != PodUp {
		return w.run(takeAll)
	}
	return nil
}

// saturated: so many slots carry a message of device 4 each, and device 5 has so many messages that wait.
func (w *world) saturated(slots, waiting int) (a, b int) {
	w.parks()
	a, b = w.device(4, "d0", 40000), w.device(5, "d1", 40001)
	for i := range slots {
		w.open(a, uint16(20+i), fmt.Sprintf("carried%d", i))
	}
	for i := range waiting {
		w.do(w.send(w.publish(b, uint16(30+i), 1, payload(fmt.Sprintf("waits%d", i), 60)), false))
	}
	if n := w.m.Queue(0).count; int(n) != waiting {
		panic(fmt.Sprintf("%d messages wait, want %d", n, waiting))
	}
	return a, b
}

// drains: the pod is to get nothing any more.
var drains = Step{kind: StepPod, state: PodDrains}

var parkScenarios = []scenario{
	{"message is parked while the response comes", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("one", 60))
		return [][]Step{{w.responseFrame(0)}, {w.send(m, true)}}
	}},
	{"messages of two clients are parked while the response comes", 1, 1, func(w *world) [][]Step {
		a, b := w.saturated(1, 0)
		f := w.responseFrame(0)
		m, n := w.publish(a, 7, 1, payload("one", 60)), w.publish(b, 0, 0, payload("two", 70))
		return [][]Step{{f}, {w.send(m, false)}, {w.send(n, false)}}
	}},
	{"messages are parked while responses come, several in flight", 1, 2, func(w *world) [][]Step {
		w.parks()
		f := w.twoResponses()
		w.device(6, "d2", 40002)
		m, n := w.publish(2, 7, 1, payload("three", 60)), w.publish(2, 0, 0, payload("four", 70))
		return [][]Step{{f}, {w.fromDevice(w.devs[2].segment(w.msgs[m].off, w.msgs[n].off), false), w.send(n, false)}}
	}},
	{"the same message is parked twice while the response comes", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("one", 60))
		return [][]Step{{w.send(m, false)}, {w.send(m, false)}, {w.responseFrame(0)}}
	}},
	{"messages of one segment are parked while the response comes", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("one", 60))
		w.publish(b, 0, 0, payload("two", 60))
		return [][]Step{{w.responseFrame(0)}, {w.send(m, false)}}
	}},
	{"one client's two messages on two processors while the response comes", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m, n := w.publish(b, 7, 1, payload("one", 60)), w.publish(b, 8, 1, payload("two", 70))
		return [][]Step{{w.fromDevice(w.devs[b].segment(w.msgs[m].off, w.msgs[n].off), false)}, {w.send(n, false)}, {w.responseFrame(0)}}
	}},
	{"two responses come while messages wait", 2, 1, func(w *world) [][]Step {
		w.saturated(2, 2)
		return [][]Step{{w.responseFrame(0)}, {w.responseFrame(1)}}
	}},
	{"message is parked while the slot is dialled again", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("one", 60))
		return [][]Step{{w.send(m, false)}, append(w.redial(0), sendParked)}
	}},
	{"slot is retired and dialled again while the response comes and messages wait", 1, 1, func(w *world) [][]Step {
		w.saturated(1, 2)
		w.vain = true // the slot that the response frees is retired then
		return [][]Step{{w.responseFrame(0)}, append([]Step{w.control(0, OpRetire)}, append(w.redial(0), sendParked)...)}
	}},
	{"slot's socket is found dead when a message that waits is to leave", 2, 1, func(w *world) [][]Step {
		w.saturated(2, 1)
		return [][]Step{{{kind: StepSocket, index: 0}, w.responseFrame(0)}, {w.responseFrame(1)}}
	}},
	{"userspace takes what waits while the response comes and a message is parked", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 1)
		m := w.publish(b, 0, 0, payload("one", 60))
		return [][]Step{{w.responseFrame(0)}, {takeAll}, {w.send(m, false)}}
	}},
	{"userspace sends what waits while the response comes", 2, 1, func(w *world) [][]Step {
		w.saturated(2, 2)
		return [][]Step{{w.responseFrame(0)}, {sendParked, takeParked}, {w.responseFrame(1)}}
	}},
	{"client reconnects while its message that waits leaves", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 1)
		return [][]Step{{w.responseFrame(0)}, w.again(b, 5, 7, false)}
	}},
	{"another client gets the entry while userspace takes its message that waits", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 1)
		return [][]Step{{takeParked}, w.successor(b, false)}
	}},
	{"client is gone while its message is parked", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("first life", 60))
		return [][]Step{{w.send(m, false)}, w.again(b, 5, 7, false), {w.responseFrame(0)}}
	}},
	{"pod drains while a message is parked and the response comes", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 0)
		m := w.publish(b, 7, 1, payload("one", 60))
		return [][]Step{{w.send(m, false)}, {drains}, {w.responseFrame(0)}}
	}},
	{"the sweeper looks at a queue while a message is parked", 1, 1, func(w *world) [][]Step {
		_, b := w.saturated(1, 1)
		m := w.publish(b, 7, 1, payload("one", 60))
		return [][]Step{{{kind: StepSweep}}, {w.send(m, false)}, {takeParked}}
	}},
	{"the fallback wants a place while the response comes and a message waits", 1, 1, func(w *world) [][]Step {
		w.saturated(1, 1)
		return [][]Step{{w.responseFrame(0)}, {enter}}
	}},
}
