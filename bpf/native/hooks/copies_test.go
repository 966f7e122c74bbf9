//go:build cgo

package hooks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// copied is a copy for subscribers: message msg of a device, or -1.
type copied struct {
	dev, msg int
	behind   bool // the device's socket had been passed something before it
}

// copyScenarios are scenarios on a route with also_broker: what is taken has its copy, and nothing else.
var copyScenarios = append(copying(
	"the same message twice, XDP",
	"another device gets the entry while a message is taken, XDP",
	"slot is dialled again while it is claimed, XDP",
	"the session ends while messages are taken, TC",
	"rights end while a message on a new topic is taken, XDP",
	"messages of one segment are parked while the response comes",
	"the same message is parked twice while the response comes",
	"two halves on two processors",
), scenario{"ring of copies is full when a message is taken", 1, 1, func(w *world) [][]Step {
	w.copy()
	d := w.device(4, "d0", 40000)
	w.m.c.copies_full = 1
	m := w.publish(d, 7, 1, payload("one", 60))
	return [][]Step{{w.send(m, true)}, {w.send(m, false)}}
}}, scenario{"message of an also_broker route behind one that the server has", 1, 4, func(w *world) [][]Step {
	w.copy()
	d := w.device(4, "d0", 40000)
	one := w.publish(d, 7, 2, payload("one", 60)) // QoS 2 is the server's
	w.do(w.send(one, false))
	two := w.publish(d, 8, 1, payload("two", 60))
	return [][]Step{{w.send(two, true)}, {w.send(two, false)}}
}})

// copying are the scenarios with these names, on such a route.
func copying(names ...string) (out []scenario) {
	for _, s := range slices.Concat(scenarios, parkScenarios, keepScenarios) {
		if !slices.Contains(names, s.name) {
			continue
		}
		out = append(out, scenario{s.name + ", with copies", s.slots, s.pipeline, func(w *world) [][]Step {
			w.copy()
			return s.setup(w)
		}})
	}
	if len(out) != len(names) {
		panic("a scenario is missing")
	}
	return out
}

// copy makes both routes such as have subscribers.
func (w *world) copy() {
	w.copying = true
	w.m.Route(0).flags, w.m.Route(1).flags = RouteCopy, RouteCopy
}

// copyOf notes a copy; empty: it was discarded.
func (w *world) copyOf(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	conn, gen, packet := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), b[16:]
	dev, d := w.of(conn, gen)
	if d == nil {
		return fmt.Errorf("copy of device %d, generation %d, which never was", conn, gen)
	}
	c := copied{dev: dev, msg: -1, behind: d.tookPublish()}
	for i := range w.msgs {
		if w.msgs[i].dev == dev && bytes.Equal(w.msgs[i].raw, packet) {
			c.msg = i
		}
	}
	if c.msg < 0 {
		return fmt.Errorf("copy of no message of %s: %q", d.client, packet)
	}
	w.copies = append(w.copies, c)
	return nil
}

// tookPublish says whether the socket was passed a message.
func (d *device) tookPublish() bool { return bytes.IndexByte(d.local, '/') >= 0 }

// copyLedgers: each message that was taken has one copy, those of a device are in its order, and none comes behind what its socket has.
func (w *world) copyLedgers() error {
	if !w.copying {
		return nil
	}
	for i := range w.devs {
		d := &w.devs[i]
		n, last := u32(0), -1
		for _, c := range w.copies {
			if c.dev != i {
				continue
			}
			n++
			if c.msg <= last {
				return fmt.Errorf("%s: copy of message %d behind that of %d", d.client, c.msg, last)
			}
			last = c.msg
			if c.behind {
				return fmt.Errorf("%s: copy of message %d, but the server has one that came before", d.client, c.msg)
			}
		}
		e := w.m.Device(d.conn)
		if uint32(w.m.Conn(d.conn).gen) == d.gen && d.gen == uint32(e.gen) && (n != e.taken || n != e.copies) {
			return fmt.Errorf("%s: %d copies, %d messages taken, %d of them counted as copied", d.client, n, e.taken, e.copies)
		}
	}
	return nil
}
