//go:build cgo

package hooks

import (
	"testing"

	"eproxy/internal/mqtt"
)

// Topic aliases (pure/alias.h): the client, the server, and the scenarios.

// speaks5 is a device that speaks MQTT 5.
func (w *world) speaks5(conn int, client string, port uint16) int {
	dev, steps := w.connect(conn, client, port)
	steps[0].device.version = 5
	w.devs[dev].aliases = true
	w.do(steps...)
	w.born()
	w.m.c.now_ns += 1e8
	w.do(w.fromDevice(w.devs[dev].segment(0, 0), true))
	return dev
}

// byAlias publishes to a topic by alias 1; named: it comes with it.
func (w *world) byAlias(dev int, pid uint16, payload, topic string, named bool) int {
	name := ""
	if named {
		name = topic
	}
	return w.publishTo(dev, pid, 1, payload, topic, name, []byte{3, 0x23, 0, 1})
}

// learn: the server says what alias 1 of a device stands for.
func (w *world) learn(dev int, topic string) Step {
	d := &w.devs[dev]
	s := Step{kind: StepAlias, index: u32(d.conn), gen: u32(d.gen), op: 1}
	s.len = u32(copy(bytesOf(s.bytes[:]), topic))
	return s
}

// name: the server says that it has read so much, to a packet's end.
func (w *world) name(dev, read int) Step {
	s := w.deviceControl(dev, OpBoundary)
	s.read = u64(read)
	return s
}

// served is what the server does with what a device's socket was passed: all that it can read, and then it says so.
func (w *world) served(dev int) (steps []Step) {
	d := &w.devs[dev]
	for rest := d.local[d.read:]; ; rest = d.local[d.read:] {
		var p mqtt.Publish
		if mqtt.ReadPublish(rest, 5, &p) != nil || p.Length > len(rest) {
			break
		}
		d.read += p.Length
		if p.TopicAlias == 1 && len(p.Topic) > 0 {
			steps = append(steps, w.learn(dev, string(p.Topic)))
		}
	}
	return append(steps, w.name(dev, d.read))
}

// serve is served of all that use aliases.
func (w *world) serve() error {
	for i := range w.devs {
		if d := &w.devs[i]; d.aliases && !d.dead {
			if err := w.run(w.served(i)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// known is a device whose alias 1 stands for s/a/t, as the programs know.
func (w *world) known() int {
	d := w.speaks5(4, "d0", 40000)
	w.do(w.learn(d, "s/a/t"))
	return d
}

// part is a message of a device, or the first bytes of it, in a segment.
func (w *world) part(m int, from, to uint32, xdp bool) Step {
	x := &w.msgs[m]
	return w.fromDevice(w.devs[x.dev].segment(x.off+from, x.off+to), xdp)
}

func (w *world) whole(m int, xdp bool) Step { return w.part(m, 0, uint32(len(w.msgs[m].raw)), xdp) }

var aliasScenarios = both(func(path string, xdp bool) []scenario {
	return []scenario{
		{"alias is changed, and used on another processor, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			f, g := w.byAlias(d, 8, payload("changed", 60), "s/b/t", true), w.byAlias(d, 9, payload("used", 70), "s/b/t", false)
			return [][]Step{{w.whole(f, xdp)}, {w.whole(g, xdp)}}
		}},
		{"alias is used while the server reads what changes it, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			f, g := w.byAlias(d, 8, payload("changed", 60), "s/b/t", true), w.byAlias(d, 9, payload("used", 70), "s/b/t", false)
			w.do(w.whole(f, xdp))
			return [][]Step{{w.whole(g, xdp)}, w.served(d)}
		}},
		{"alias is changed once more while the server reads what changes it, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			f, g := w.byAlias(d, 8, payload("changed", 60), "s/b/t", true), w.byAlias(d, 9, payload("again", 70), "s/a/t", true)
			h := w.byAlias(d, 10, payload("used", 80), "s/a/t", false)
			w.do(w.whole(f, xdp))
			return [][]Step{{w.whole(g, xdp), w.whole(h, xdp)}, w.served(d)}
		}},
		{"alias is changed behind a cut, and used, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			f, g := w.byAlias(d, 8, payload("changed", 60), "s/b/t", true), w.byAlias(d, 9, payload("used", 70), "s/b/t", false)
			n := uint32(len(w.msgs[f].raw))
			return [][]Step{{w.part(f, 0, 3, xdp), w.part(f, 3, n, xdp)}, {w.whole(g, xdp)}}
		}},
		{"another client gets the entry while an alias is used, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			g := w.whole(w.byAlias(d, 9, payload("used", 70), "s/a/t", false), xdp)
			steps := w.forget(d)
			next, up := w.connectAs(4, "d9", 40001, w.devs[d].iss, w.devs[d].niss)
			up[0].device.version = 5
			w.devs[next].aliases = true
			w.greeted(next)
			return [][]Step{{g}, append(append(steps, up...), w.whole(w.byAlias(next, 9, payload("hers", 70), "s/c/t", true), xdp))}
		}},
		{"server says late what an alias of an entry's former owner stands for, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			late := w.learn(d, "s/b/t")
			steps := w.forget(d)
			next, up := w.connectAs(4, "d9", 40001, w.devs[d].iss, w.devs[d].niss)
			up[0].device.version = 5
			w.devs[next].aliases = true
			w.greeted(next)
			hers := w.learn(next, "s/c/t")
			return [][]Step{{late}, append(append(steps, up...), hers, w.whole(w.byAlias(next, 9, payload("hers", 70), "s/c/t", false), xdp))}
		}},
		{"rights end while an alias is used, " + path, 2, 1, func(w *world) [][]Step {
			d := w.known()
			g := w.byAlias(d, 9, payload("used", 70), "s/a/t", false)
			return [][]Step{{w.whole(g, xdp)}, {w.deviceControl(d, OpRights)}}
		}},
	}
})

// TestAliasesAreUsed: in the scenarios' world an alias that is known is used, so that they are about something.
func TestAliasesAreUsed(t *testing.T) {
	w := newWorld(mustBuild(t), 1, 1)
	d := w.known()
	m := w.byAlias(d, 9, payload("used", 70), "s/a/t", false)
	w.do(w.whole(m, true))
	if w.msgs[m].sent != 1 {
		t.Errorf("not taken: %+v", w.msgs[m])
	}
}
