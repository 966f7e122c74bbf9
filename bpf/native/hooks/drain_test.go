//go:build cgo

package hooks

import (
	"bytes"
	"fmt"
)

// After the interleaving life goes on: ends repeat what was lost, functions
// response, userspace does its part. Everything must come to rest.

const (
	patience = 10 // rounds before userspace's timeouts strike
	rounds   = 24
)

// life comes to rest, twice: the devices publish once more.
func (w *world) life() error {
	if err := w.drain(); err != nil {
		return err
	}
	for i := range w.devs {
		if !w.devs[i].dead {
			w.publish(i, 99, 1, payload("afterwards", 50))
		}
	}
	return w.drain()
}

func (w *world) drain() error {
	why := ""
	for i := range rounds {
		if why = w.restless(); why == "" {
			return w.outcomes()
		}
		if err := w.round(i >= patience); err != nil {
			return err
		}
	}
	return fmt.Errorf("does not come to rest: %s", why)
}

// run is do, with the error.
func (w *world) run(steps ...Step) error {
	w.load([][]Step{steps})
	w.m.c.turns = 0
	w.m.Run()
	return w.absorb()
}

// restless says what is still to happen.
func (w *world) restless() string {
	if len(w.attention)+len(w.pubacks)+len(w.broken)+len(w.holds) > 0 || w.parked {
		return "events wait"
	}
	if n := w.m.Queue(0).count; n > 0 {
		return fmt.Sprintf("%d messages wait for a slot", n)
	}
	for i := range w.devs {
		d := &w.devs[i]
		switch {
		case d.dead:
		case d.una < uint32(len(d.stream)):
			return fmt.Sprintf("%s: byte %d is not acknowledged", d.client, d.una)
		case d.rcv() < uint32(len(d.got)):
			return fmt.Sprintf("%s: byte %d did not arrive", d.client, d.rcv())
		case d.notified < d.rcv() || d.localDue:
			return "acknowledgements wait"
		}
	}
	for i := range w.pods {
		p := &w.pods[i]
		if p.dead {
			continue
		}
		off, n := p.rcv()
		switch {
		case n < len(p.requests):
			return fmt.Sprintf("slot %d: byte %d did not arrive", p.conn, off)
		case p.answered < n || p.una < uint32(len(p.out)) || p.notified < off || p.passed || p.ended != 0:
			return "a pod has something to say"
		}
	}
	for s := range slotCount {
		if sl := w.m.Slot(s); sl.head != sl.tail {
			return fmt.Sprintf("slot %d: a message is in flight", s)
		}
	}
	return ""
}

func (w *world) round(late bool) error {
	w.m.c.now_ns += 200e6
	if err := w.userspace(late); err != nil {
		return err
	}
	for i := range w.pods {
		if err := w.podTurn(i); err != nil {
			return err
		}
	}
	for i := range w.devs {
		if err := w.deviceTurn(i); err != nil {
			return err
		}
	}
	if err := w.run(Step{kind: StepSweep}); err != nil {
		return err
	}
	return w.ledgers()
}

// userspace does what internal/dataplane does about events, bytes on slots' sockets and timeouts.
func (w *world) userspace(late bool) error {
	if len(w.broken) > 0 {
		return fmt.Errorf("a device's connection is broken")
	}
	for _, h := range w.holds {
		if err := w.release(h); err != nil {
			return err
		}
	}
	w.holds = nil
	for _, e := range w.pubacks {
		if err := w.release(held{uint32(e.conn), uint32(e.gen), uint32(e.hold)}); err != nil {
			return err
		}
		if _, d := w.of(uint32(e.conn), uint32(e.gen)); d != nil && !d.dead && w.released {
			s := d.localSegment([]byte{0x40, 2, byte(e.packet_id >> 8), byte(e.packet_id)})
			if err := w.run(frameStep(StepLocalFrame, 1, s)); err != nil {
				return err
			}
		}
	}
	w.pubacks = nil
	if err := w.serve(); err != nil {
		return err
	}
	if err := w.wakePod(); err != nil {
		return err
	}
	if err := w.tendParked(late); err != nil {
		return err
	}
	end := make([]bool, len(w.pods))
	for i := range w.pods {
		p := &w.pods[i]
		for _, e := range w.attention {
			end[i] = end[i] || uint32(e.conn) == uint32(p.conn) && uint32(e.gen) == p.gen
		}
		end[i] = end[i] || p.passed
		if s := w.m.Slot(p.conn); late && !p.dead && s.head != s.tail {
			end[i] = true
			w.overdue++
		}
	}
	w.attention = nil
	for i := range end {
		if !end[i] || w.pods[i].dead {
			continue
		}
		w.pods[i].passed = false
		if err := w.run(w.hangUp(i)...); err != nil {
			return err
		}
		if err := w.run(append(w.dial(w.pods[i].conn), sendParked)...); err != nil {
			return err
		}
	}
	return nil
}

// release: a message is over for userspace.
func (w *world) release(h held) error {
	return w.run(Step{kind: StepDeviceControl, index: u32(h.conn), gen: u32(h.gen), op: OpRelease, hold: u32(h.hold)})
}

func (w *world) podTurn(i int) error {
	p := &w.pods[i]
	if p.dead || w.m.Pod(0).sleep != PodAwake { // its processes are frozen
		return nil
	}
	if p.ended != 0 {
		return w.run(w.fromPod(p.end(p.ended)))
	}
	if n := uint32(len(p.out)); p.una < n {
		if err := w.run(w.fromPod(p.segment(p.una, n))); err != nil {
			return err
		}
	}
	for n := uint32(len(p.out)); w.response(p); n = uint32(len(p.out)) {
		if err := w.run(w.fromPod(p.segment(n, uint32(len(p.out))))); err != nil {
			return err
		}
	}
	if off, _ := p.rcv(); p.notified < off {
		n := uint32(len(p.out))
		return w.run(w.fromPod(p.segment(n, n)))
	}
	return nil
}

func (w *world) deviceTurn(i int) error {
	d := &w.devs[i]
	if d.dead {
		return nil
	}
	if d.localDue {
		if err := w.run(frameStep(StepLocalFrame, 1, d.localSegment(nil))); err != nil {
			return err
		}
	}
	if n := uint32(len(d.stream)); d.una < n || d.notified < d.rcv() {
		return w.run(w.fromDevice(d.segment(d.una, n), true))
	}
	return nil
}

// outcomes: each message has exactly one, and nothing was acknowledged that was not answered.
func (w *world) outcomes() error {
	for i := range w.devs {
		if err := w.heard(i); err != nil {
			return err
		}
	}
	return nil
}

// heard checks one device's messages against what it and its socket received.
func (w *world) heard(dev int) error {
	d := &w.devs[dev]
	pubacks := map[uint16]int{}
	for got := d.got; len(got) > 0; {
		if len(got) < 4 || got[0] != 0x40 && got[0] != 0x20 || got[1] != 2 {
			return fmt.Errorf("%s: received %v", d.client, d.got)
		}
		if got[0] == 0x40 {
			pubacks[uint16(got[2])<<8|uint16(got[3])]++
		}
		got = got[4:]
	}
	local := d.local
	for i := range w.msgs {
		m := &w.msgs[i]
		if m.dev != dev {
			continue
		}
		n := 0
		if !m.reused {
			n = pubacks[m.pid]
			delete(pubacks, m.pid)
		}
		passed := 0
		if bytes.HasPrefix(local, m.raw) {
			local = local[len(m.raw):]
			passed = 1
		}
		if d.replaced && m.sent > 0 {
			passed = 0 // its segment went on as it was: the socket had ended before
		}
		switch {
		case n > 0 && !m.answered:
			return fmt.Errorf("%s: PUBACK %d, but message %d was never answered", d.client, m.pid, i)
		case n+m.taken+passed > 1 || passed+m.sent > 1:
			return fmt.Errorf("message %d: PUBACK %d times, taken over %d times, passed %d times, sent %d times", i, n, m.taken, passed, m.sent)
		case !d.dead && m.qos > 0 && !m.reused && n+m.taken+passed == 0:
			return fmt.Errorf("message %d (answered: %v, sent: %d) is lost", i, m.answered, m.sent)
		case !d.dead && m.qos == 0 && m.sent+m.taken+passed == 0:
			return fmt.Errorf("message %d is lost", i)
		}
	}
	if len(pubacks) > 0 {
		return fmt.Errorf("%s: PUBACKs for no message: %v", d.client, pubacks)
	}
	if len(local) > 0 && !d.dead {
		return fmt.Errorf("%s: its socket was passed %q", d.client, d.local)
	}
	return nil
}
