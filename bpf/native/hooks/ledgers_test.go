//go:build cgo

package hooks

import (
	"fmt"
	"math/bits"

	"eproxy/internal/mqtt"
)

// ledgers checks that all entries agree with each other. Between runs no program
// is in the middle of anything.
func (w *world) ledgers() error {
	for s := range slotCount {
		if err := w.slotLedgers(s); err != nil {
			return fmt.Errorf("slot %d: %w", s, err)
		}
	}
	if err := w.places(); err != nil {
		return err
	}
	for i := range w.frozen {
		f := &w.frozen[i]
		if n := w.m.Device(int(f.conn)).taken; w.m.Conn(int(f.conn)).gen == f.gen && n != u32(f.taken) {
			return fmt.Errorf("conn %d: %d messages taken after operation %d had found %d", f.conn, n-u32(f.taken), f.op, f.taken)
		}
	}
	if err := w.queueLedgers(); err != nil {
		return err
	}
	if err := w.copyLedgers(); err != nil {
		return err
	}
	if w.m.KeptBusy() {
		return fmt.Errorf("the beginning of a message is still being worked with")
	}
	if err := w.attended(); err != nil {
		return err
	}
	for i := range w.devs {
		d := w.m.Device(w.devs[i].conn)
		if after := w.m.c.settings.root == reloaded; d.cache_epoch == w.m.c.settings.epoch && (d.cache_counter == 1) != after {
			return fmt.Errorf("%s: reloaded %v, but its head is that of route %d", w.devs[i].client, after, d.cache_counter)
		}
	}
	for i := range w.devs {
		if d := &w.devs[i]; uint32(w.m.Conn(d.conn).gen) == d.gen {
			if err := w.deviceLedgers(i); err != nil {
				return fmt.Errorf("%s: %w", d.client, err)
			}
		}
	}
	return nil
}

func ledger(l *Ledger) (open int, grafts []*Graft, err error) {
	for i := range int(l.count) {
		g := &l.ring[(int(l.head)+i)%Ring]
		if g.state == GraftOpen {
			open++
		}
		if n := len(grafts); n > 0 && int32(g.seq-grafts[n-1].seq) < int32(grafts[n-1].len) {
			return 0, nil, fmt.Errorf("grafts overlap")
		}
		grafts = append(grafts, g)
	}
	if open != int(l.open) {
		return 0, nil, fmt.Errorf("%d open grafts, the ledger says %d", open, l.open)
	}
	return open, grafts, nil
}

// places: the pod never has more requests than it may have, on both paths
// together, and who waits for a place is told of one.
func (w *world) places() error {
	p := w.m.Pod(0)
	if p.filling != 0 {
		return fmt.Errorf("slots %#x are still being filled", p.filling)
	}
	used := bits.OnesCount64(uint64(p.busy)) + int(p.fallback)
	if used > int(p.concurrency) {
		return fmt.Errorf("slots %#x are busy, and the fallback has %d requests: more than %d", p.busy, p.fallback, p.concurrency)
	}
	if p.waiting != 0 && used < int(p.concurrency) {
		return fmt.Errorf("slots %#x are busy, the fallback has %d requests of %d, and who waits is not told", p.busy, p.fallback, p.concurrency)
	}
	return nil
}

func (w *world) inFlight(s *Slot) (ms []*Message) {
	for n := s.head; n != s.tail && len(ms) < w.pipeline; n++ {
		ms = append(ms, &s.messages[int(n)%w.pipeline])
	}
	return ms
}

func (w *world) slotLedgers(i int) error {
	c, s, p := w.m.Conn(i), w.m.Slot(i), w.m.Pod(0)
	ms := w.inFlight(s)
	bit := uint64(1) << i
	flowing := s.state == SlotBusy || s.state == SlotResponding
	room := flowing && s.close_after == 0 && len(ms) < int(p.proven)
	if (uint64(p.idle)&bit != 0) != (s.state == SlotIdle) || (uint64(p.room)&bit != 0) != room {
		return fmt.Errorf("state %d with %d in flight, but idle %#x, room %#x", s.state, len(ms), p.idle, p.room)
	}
	if busy := len(ms) > 0 || s.state == SlotPassing || s.state == SlotTakenOver; (uint64(p.busy)&bit != 0) != busy {
		return fmt.Errorf("state %d with %d in flight, but busy %#x", s.state, len(ms), p.busy)
	}
	if s.state == SlotIdle && len(ms) > 0 || flowing && len(ms) == 0 || len(ms) > int(p.depth) {
		return fmt.Errorf("state %d with %d in flight", s.state, len(ms))
	}
	_, grafts, err := ledger(&c.tx)
	if err != nil {
		return err
	}
	if bits.OnesCount32(uint32(w.pipeline)) != 1 {
		return fmt.Errorf("pipeline %d", w.pipeline)
	}
	for n, m := range ms {
		if err := w.messageLedgers(i, uint32(s.head)+uint32(n), c, m, grafts); err != nil {
			return fmt.Errorf("request %d: %w", uint32(s.head)+uint32(n), err)
		}
	}
	return nil
}

// messageLedgers: whose message it is, its bytes, its graft on either side.
func (w *world) messageLedgers(slot int, number uint32, c *Conn, m *Message, grafts []*Graft) error {
	dev, d := w.of(uint32(m.origin), uint32(m.origin_gen))
	if d == nil {
		return fmt.Errorf("of device %d, generation %d, which never was", m.origin, m.origin_gen)
	}
	want := -1
	for i := range w.msgs {
		if w.msgs[i].dev == dev && d.iss+w.msgs[i].off == uint32(m.origin_position) {
			want = i
		}
	}
	if want < 0 || w.msgs[want].pid != uint16(m.packet_id) {
		return fmt.Errorf("%s has no such message: seq %d, packet id %d", d.client, m.origin_position, m.packet_id)
	}
	if b := w.m.Request(slot, number)[:m.request_len]; !w.msgs[want].matches(b) {
		return fmt.Errorf("is message %d, but its buffer holds %q", want, b)
	}
	inserted := int32(m.request_seq+m.request_len-c.tx_una) <= 0
	for _, g := range grafts {
		inserted = inserted || g.seq == m.request_seq && u32(g.len) == m.request_len
	}
	if c.state != ConnFree && !inserted {
		return fmt.Errorf("message %d has no insertion", want)
	}
	return nil
}

// deviceLedgers: every open graft has its message in one slot, and they are counted.
func (w *world) deviceLedgers(i int) error {
	d := &w.devs[i]
	c := w.m.Conn(d.conn)
	if c.state != ConnOpen && c.state != ConnClosed {
		return nil
	}
	_, grafts, err := ledger(&c.rx)
	if err != nil {
		return err
	}
	if _, _, err := ledger(&c.tx); err != nil {
		return err
	}
	if got := w.m.Device(d.conn).framing; c.flags&ConnLost == 0 && c.state == ConnOpen {
		var want mqtt.Framing
		n, err := want.Write(d.stream[:uint32(c.rx_nxt)-d.iss])
		if head, left := want.Pending(); err != nil {
			return fmt.Errorf("its stream up to byte %d: %w", n, err)
		} else if got.bad != 0 || int(got.head) != head || int(got.left) != left {
			return fmt.Errorf("its framing at byte %d: %d bytes of a header, %d left, but the entry has %+v", n, head, left, got)
		}
	}
	if err := w.identifiers(d); err != nil {
		return err
	}
	n := 0
	for s := range slotCount {
		for i, m := range w.inFlight(w.m.Slot(s)) {
			if !w.isOf(m, d) {
				continue
			}
			n++
			if w.waited(s, uint32(w.m.Slot(s).head)+uint32(i)) && m.early == 0 {
				return fmt.Errorf("slot %d carries its message at %d, which waited: it is not said to be done", s, uint32(m.origin_position)-d.iss)
			}
			if m.acked == 0 && m.early == 0 && !hasGraft(grafts, s, m) {
				return fmt.Errorf("slot %d carries its message at %d, its ledger has no open graft for it", s, uint32(m.origin_position)-d.iss)
			}
		}
	}
	for _, m := range w.waiting() {
		if w.isOf(m, d) {
			n++
		}
	}
	if n != int(c.in_flight) {
		return fmt.Errorf("%d messages in flight, the entry says %d", n, c.in_flight)
	}
	for _, g := range grafts {
		if g.state == GraftOpen && !w.carried(g, d) {
			return fmt.Errorf("open graft at %d, but slot %d does not carry it", uint32(g.seq)-d.iss, g.who)
		}
	}
	return nil
}

func hasGraft(grafts []*Graft, slot int, m *Message) bool {
	for _, g := range grafts {
		if g.state == GraftOpen && g.seq == m.origin_position && int(g.who) == slot {
			return true
		}
	}
	return false
}

func (w *world) carried(g *Graft, d *device) bool {
	if g.who >= slotCount {
		return false
	}
	for _, m := range w.inFlight(w.m.Slot(int(g.who))) {
		if int(m.origin) == d.conn && uint32(m.origin_gen) == d.gen && m.origin_position == g.seq {
			return true
		}
	}
	return false
}

// identifiers: each packet identifier in use is held by one message that is under
// way, in a slot or in userspace.
func (w *world) identifiers(d *device) error {
	ids := &w.m.Device(d.conn).ids
	live := map[uint32]bool{}
	for _, h := range w.holds {
		if h.conn == uint32(d.conn) && h.gen == d.gen {
			live[h.hold] = true
		}
	}
	for _, e := range w.pubacks {
		if uint32(e.conn) == uint32(d.conn) && uint32(e.gen) == d.gen {
			live[uint32(e.hold)] = true
		}
	}
	for s := range slotCount {
		for _, m := range w.inFlight(w.m.Slot(s)) {
			if uint32(m.origin) != uint32(d.conn) || uint32(m.origin_gen) != d.gen || m.qos == 0 {
				continue
			}
			n := uint32(m.hold) % IDsMax // no connection of this machine needs a table
			if b := &ids.block[n/4]; uint32(b.gen[n%4]) == uint32(m.hold)>>HoldShift && uint16(b.ids>>(n%4*16)) != uint16(m.packet_id) {
				return fmt.Errorf("packet id %d in flight on slot %d holds %d", m.packet_id, s, uint16(b.ids>>(n%4*16)))
			}
			live[uint32(m.hold)] = true
		}
	}
	for _, m := range w.waiting() {
		if w.isOf(m, d) && m.qos > 0 {
			live[uint32(m.hold)] = true
		}
	}
	for n := range uint32(IDsMax) {
		if b := &ids.block[n/4]; ids.used>>n&1 == 1 && !live[uint32(b.gen[n%4])<<HoldShift|n] {
			return fmt.Errorf("packet id %d is held by no message", uint16(b.ids>>(n%4*16)))
		}
	}
	return nil
}
