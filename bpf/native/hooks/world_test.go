//go:build cgo

package hooks

import (
	"fmt"
	"slices"
)

// Conn indexes below slotCount are slots of pod 0.
const slotCount = 4

// connCount is how many conn indexes there are.
const connCount = 12

const podIfindex = 10

var (
	nodeEnd = end{ip: [4]byte{10, 0, 0, 2}, port: 1883}
	podEnd  = end{ip: [4]byte{10, 1, 0, 2}, port: 8080}
)

// world is a machine with the ends of its connections.
type world struct {
	m        *Machine
	pipeline int
	devs     []device
	pods     []pod
	msgs     []message

	// for userspace
	attention []Event
	pubacks   []Event
	broken    []Event
	overdue   int
	freed     int             // times that who waits for a place was told of one
	frozen    []DeviceControl // after which nothing may be taken of the connection
	holds     []held          // on packet identifiers of messages that are userspace's
	released  bool            // what the latest release said
	parked    bool            // messages that wait need userspace
	roused    int             // times that userspace was told that the sleeping pod has something to do
	copying   bool            // subscribers get copies of what is taken
	copies    []copied        // in the order of the ring
	vain      bool            // slots may be claimed in vain while messages wait: the sweeper finds out
}

// held is what a message of a connection holds.
type held struct{ conn, gen, hold uint32 }

// clone keeps what a run changes apart.
func (w *world) clone() *world {
	c := *w
	c.devs = slices.Clone(w.devs)
	for i := range c.devs {
		c.devs[i].got = slices.Clone(c.devs[i].got)
	}
	c.pods = slices.Clone(w.pods)
	c.msgs = slices.Clone(w.msgs)
	c.attention = slices.Clip(w.attention)
	c.pubacks = slices.Clip(w.pubacks)
	c.broken = slices.Clip(w.broken)
	c.frozen = slices.Clip(w.frozen)
	c.holds = slices.Clip(w.holds)
	c.copies = slices.Clip(w.copies)
	return &c
}

// reloaded is the root of the routes that a reload switches to.
const reloaded = 6

// newWorld has one function with one pod, so many slots in use and the route s/+/t.
func newWorld(m *Machine, slots, pipeline int) *world {
	m.Clear()
	m.Knobs(slotCount, pipeline)
	w := &world{m: m, pipeline: pipeline}
	m.c.now_ns = 1e12
	m.c.copies_full = 0
	m.c.settings.root = 1
	m.c.settings.root_dollar = 2
	m.c.settings.epoch = 1
	m.c.settings.slots_end, m.c.settings.conns_end = slotCount, connCount
	m.StartTimer()
	for i := range 8 {
		n := m.Node(i)
		n.plus, n.exact, n.hash = NoIndex, -1, -1
	}
	m.Node(3).plus = 4
	m.Node(5).exact = 0
	m.Edge(1, "s", 3)
	m.Edge(4, "t", 5)
	m.Node(reloaded).hash = 1 // s/+/t and everything else, after a reload
	m.Route(0).counter, m.Route(1).counter = 0, 1
	m.Prefix(prefix)
	p := m.Pod(0)
	p.up, p.xdp_ok, p.peer_ok, p.ifindex, p.concurrency = 1, 1, 1, podIfindex, u16(slots)
	p.proven, p.depth = u32(pipeline), u32(pipeline)
	for i := range slots {
		w.do(w.dial(i)...)
		w.born()
	}
	return w
}

// do runs steps alone, one after another.
func (w *world) do(steps ...Step) {
	for len(steps) > 0 {
		n := min(len(steps), MaxSteps)
		w.load([][]Step{steps[:n]})
		w.m.c.turns = 0
		w.m.Run()
		if err := w.absorb(); err != nil {
			panic(err)
		}
		steps = steps[n:]
	}
}

// load puts tasks into the machine.
func (w *world) load(tasks [][]Step) {
	c := w.m.c
	c.tasks = u32(len(tasks))
	for i, t := range tasks {
		c.steps[i] = u32(len(t))
		copy(c.step[i][:], t)
	}
}

func frameStep(kind u32, ifindex int, s segment) Step {
	st := Step{kind: kind, ifindex: u32(ifindex)}
	b := s.frame()
	st.len = u32(copy(bytesOf(st.bytes[:]), b))
	if int(st.len) < len(b) {
		panic("frame too long")
	}
	return st
}

// fromDevice: a segment of the device arrives, at XDP or at TC.
func (w *world) fromDevice(s segment, xdp bool) Step {
	st := frameStep(StepDeviceFrame, 1, s)
	if xdp {
		st.xdp = 1
	}
	return st
}

func (w *world) fromPod(s segment) Step { return frameStep(StepPodFrame, podIfindex, s) }

// connect is a device's connection up to its CONNACK, on a conn of its own.
func (w *world) connect(conn int, client string, port uint16) (dev int, steps []Step) {
	n := uint32(len(w.devs))
	return w.connectAs(conn, client, port, 1000+n<<26, 5000+n<<26)
}

// connectAs: with these first sequence numbers.
func (w *world) connectAs(conn int, client string, port uint16, iss, niss uint32) (dev int, steps []Step) {
	n := len(w.devs)
	d := device{conn: conn, client: client, topic: "s/" + client + "/t", at: end{ip: [4]byte{10, 0, 1, 1}, port: port}, iss: iss, niss: niss}
	part := Step{kind: StepDevice, index: u32(conn)}
	part.device.arm, part.device.rights, part.device.version, part.device.inflight_max = 1, RightsAll, 4, 32
	if w.copying {
		part.device.arm |= ArmClear
	}
	part.device.sender_len[0] = u8(copy(bytesOf(part.device.sender[:]), client))
	arm := Step{kind: StepArm, index: u32(conn), conn_kind: KindDevice, tuple: tupleOf(nodeEnd, d.at)}
	first := frameStep(StepLocalFrame, 1, d.localSegment(connack))
	first.rcv_nxt, first.snd_una = u32(d.iss), u32(d.niss)
	w.devs = append(w.devs, d)
	return n, []Step{part, arm, first}
}

// device connects one and lets it acknowledge the CONNACK.
func (w *world) device(conn int, client string, port uint16) int {
	dev, steps := w.connect(conn, client, port)
	w.do(steps...)
	w.born()
	w.m.c.now_ns += 1e8
	w.do(w.fromDevice(w.devs[dev].segment(0, 0), true))
	return dev
}

// dial is a slot's next connection, up to its being ready.
func (w *world) dial(slot int) []Step {
	n := uint32(len(w.pods))
	p := pod{conn: slot, at: end{ip: [4]byte{10, 1, 0, 1}, port: uint16(50000 + n)}, iss: 7000 + n<<26, niss: 9000 + n<<26}
	w.pods = append(w.pods, p)
	part := Step{kind: StepSlot, index: u32(slot)}
	part.slot.state = SlotDialling
	copy(bytesOf(part.slot.id_prefix[:]), fmt.Sprintf("%08x%04x", 0xabcdef, slot))
	arm := Step{kind: StepArm, index: u32(slot), conn_kind: KindSlot, tuple: tupleOf(p.at, podEnd)}
	last := frameStep(StepLocalFrame, podIfindex, segment{from: p.at, to: podEnd, seq: p.niss, ack: p.iss, flags: ack, wnd: 60000})
	last.rcv_nxt, last.snd_una = u32(p.iss), u32(p.niss)
	sock := Step{kind: StepSocket, index: u32(slot), state: 1}
	return []Step{part, arm, last, sock, {kind: StepControl, index: u32(slot), op: OpReady}}
}

// hangUp is the end of a slot's session: retire, take over what is left, forget.
func (w *world) hangUp(i int) []Step {
	p := &w.pods[i]
	p.dead = true
	return []Step{
		{kind: StepSocket, index: u32(p.conn)},
		{kind: StepControl, index: u32(p.conn), gen: u32(p.gen), op: OpRetire},
		{kind: StepControl, index: u32(p.conn), gen: u32(p.gen), op: OpTakeOver, repeat: 1},
		{kind: StepFree, index: u32(p.conn), gen: u32(p.gen), tuple: tupleOf(p.at, podEnd)},
	}
}

// born notes the generations of what has been armed.
func (w *world) born() {
	for i := range w.devs {
		if d := &w.devs[i]; d.gen == 0 {
			d.gen = uint32(w.m.Conn(d.conn).gen)
		}
	}
	for i := range w.pods {
		if p := &w.pods[i]; p.gen == 0 {
			p.gen = uint32(w.m.Conn(p.conn).gen)
		}
	}
}

// reset: the device is gone, and its socket forgets it.
func (w *world) forget(dev int) []Step {
	d := &w.devs[dev]
	d.dead = true
	return []Step{{kind: StepFree, index: u32(d.conn), gen: u32(d.gen), tuple: tupleOf(nodeEnd, d.at)}}
}

// synAck: the node answers a SYN on the device's 4-tuple.
func (w *world) synAck(dev int) Step {
	d := &w.devs[dev]
	s := segment{from: nodeEnd, to: d.at, seq: d.niss - 1, ack: d.iss, flags: syn | ack, wnd: 60000}
	return frameStep(StepLocalFrame, 1, s)
}

// absorb takes note of what came of a run.
func (w *world) absorb() error {
	w.born()
	if f := w.m.faultText(); f != "" {
		return fmt.Errorf("%s", f)
	}
	rs := w.m.Records()
	for i := range rs {
		if err := w.note(&rs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) note(r *Record) error {
	switch r.kind {
	case RecordDeviceWire, RecordPodWire, RecordDeviceLocal, RecordPodLocal:
		s, err := parse(frameOf(r))
		if err != nil {
			return fmt.Errorf("frame: %w", err)
		}
		return w.frame(int(r.kind), s)
	case RecordEvent:
		e := eventOf(r)
		switch e.kind {
		case EventSend:
			s, err := parse(bytesOf(e.frame[:])[:e.frame_len])
			if err != nil {
				return fmt.Errorf("frame of the sweeper: %w", err)
			}
			if e.ifindex == podIfindex {
				return w.frame(RecordPodWire, s)
			}
			return w.frame(RecordDeviceWire, s)
		case EventSlot:
			w.attention = append(w.attention, *e)
		case EventPuback:
			w.pubacks = append(w.pubacks, *e)
		case EventBroken:
			w.broken = append(w.broken, *e)
		case EventPlace:
			w.freed++
		case EventParked:
			w.parked = true
		case EventWake:
			w.roused++
		}
	case RecordControl:
		if c := controlOf(r); c.ok == 1 && c.op == OpTakeOver {
			return w.takenOver(c, frameOf(r))
		}
	case RecordRoused:
		w.roused++
	case RecordCopy:
		return w.copyOf(frameOf(r))
	case RecordParked:
		return w.takenParked(parkedOf(r), frameOf(r))
	case RecordDeviceControl:
		return w.controlled(deviceControlOf(r))
	}
	return nil
}

// controlled: userspace has changed something. Every repetition that it asks about
// is one: what the scenarios have repeated is under way until the device has
// acknowledged its PUBACK.
func (w *world) controlled(c *DeviceControl) error {
	switch c.op {
	case OpBoundary:
	case OpHold:
		if c.ok == 1 && c.dup == 1 && c.repeated == 0 {
			return fmt.Errorf("packet id %d is under way, but its repetition was not known", c.packet_id)
		}
		if c.repeated == 0 && c.hold != HoldNone {
			w.holds = append(w.holds, held{uint32(c.conn), uint32(c.gen), uint32(c.hold)})
		}
	case OpClear:
	case OpRelease:
		w.released = c.ok == 1
	default:
		if c.ok == 1 {
			w.frozen = append(w.frozen, *c)
		}
	}
	return nil
}

const region = 1 << 20

func (w *world) frame(kind int, s segment) error {
	switch kind {
	case RecordDeviceWire:
		for i := range w.devs {
			if d := &w.devs[i]; d.at == s.to && s.seq-d.niss+1 < region {
				d.replaced = d.replaced || s.flags&syn != 0
				return d.receive(s)
			}
		}
		return fmt.Errorf("a frame to no generation of a device: seq %d", s.seq)
	case RecordPodWire:
		for i := range w.pods {
			if p := &w.pods[i]; p.at == s.from && s.seq-p.niss < region {
				return w.podReceive(i, s)
			}
		}
		return fmt.Errorf("a frame from no generation of a slot: seq %d", s.seq)
	case RecordDeviceLocal:
		for i := range w.devs {
			if d := &w.devs[i]; d.at == s.from && s.seq-d.iss+region/2 < region && !d.replaced {
				d.passed(s)
			}
		}
	case RecordPodLocal:
		for i := range w.pods {
			if p := &w.pods[i]; p.at == s.to && (len(s.data) > 0 || s.flags&(fin|rst) != 0) {
				p.passed = true
			}
		}
	}
	return nil
}

// of finds the device that a conn and generation name; nil if it is none that is known.
func (w *world) of(conn, gen uint32) (int, *device) {
	for i := range w.devs {
		if d := &w.devs[i]; uint32(d.conn) == conn && d.gen == gen {
			return i, d
		}
	}
	return -1, nil
}

// takenOver: userspace has a message, and its bytes.
func (w *world) takenOver(c *Control, b []byte) error {
	dev, _ := w.of(uint32(c.device), uint32(c.device_gen))
	for i := range w.msgs {
		m := &w.msgs[i]
		if m.dev == dev && m.matches(b) {
			if err := w.taken(i, uint16(c.packet_id), held{uint32(c.device), uint32(c.device_gen), uint32(c.hold)}); err != nil {
				return err
			}
			return w.takenFrom(i, c)
		}
	}
	return fmt.Errorf("taken over from slot %d for device %d, packet id %d, but with these bytes: %q", c.slot, dev, c.packet_id, b)
}

// taken: message i is userspace's.
func (w *world) taken(i int, pid uint16, h held) error {
	m := &w.msgs[i]
	if m.pid != pid {
		return fmt.Errorf("message %d was taken over with packet id %d", i, pid)
	}
	m.taken++
	if m.qos > 0 {
		w.holds = append(w.holds, h)
	}
	return nil
}

// takenFrom: the generation that was asked for is the one that carried the message.
func (w *world) takenFrom(msg int, c *Control) error {
	for i := range w.pods {
		p := &w.pods[i]
		for _, r := range p.requests {
			if r.msg == msg && (p.conn != int(c.slot) || p.gen != uint32(c.gen)) {
				return fmt.Errorf("message %d of slot %d, generation %d, was taken over in the name of slot %d, generation %d", msg, p.conn, p.gen, c.slot, c.gen)
			}
		}
	}
	return nil
}
