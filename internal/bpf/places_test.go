package bpf

import (
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// placesOf is a pod with one idle slot of so many places, of which the fallback has some.
func placesOf(concurrency uint16, fallback uint32) EproxyPod {
	return EproxyPod{Idle: 1, Up: 1, XdpOk: 1, Ifindex: 1, TimeoutMs: 60000, UnackedMs: 60000, Concurrency: concurrency, Fallback: fallback}
}

// TestPlacesAreShared: a message is taken only if its request, those on other slots and
// those of the fallback are together no more than the pod's concurrency. A slot that
// has a request in flight has its place already.
func TestPlacesAreShared(t *testing.T) {
	const taken, denied = EproxyReasonREASON_TAKEN, EproxyReasonREASON_NO_SLOT
	for name, c := range map[string]struct {
		pod  EproxyPod
		busy bool // the slot
		want EproxyReason
	}{
		"one place, free":                          {placesOf(1, 0), false, taken},
		"one place, the fallback's":                {placesOf(1, 1), false, denied},
		"two places, one the fallback's":           {placesOf(2, 1), false, taken},
		"two places, the fallback's":               {placesOf(2, 2), false, denied},
		"two places, another slot's and a request": {EproxyPod{Idle: 1, Busy: 2, Concurrency: 2, Fallback: 1}, false, denied},
		"three places, the third one free":         {EproxyPod{Idle: 1, Busy: 2, Concurrency: 3, Fallback: 1}, false, taken},
		"another slot's request is being made":     {EproxyPod{Idle: 1, Filling: 2, Concurrency: 2, Fallback: 1}, false, denied},
		"one and the same slot's counts once":      {EproxyPod{Idle: 1, Busy: 2, Filling: 2, Concurrency: 3, Fallback: 1}, false, taken},
		"somebody waits for the last place":        {EproxyPod{Idle: 1, Reserved: 2, Concurrency: 2, Fallback: 1}, false, denied},
		"the only place is kept for userspace":     {EproxyPod{Idle: 1, Reserved: 1, Concurrency: 1}, false, denied},
		"it is kept, after the programs' turn":     {EproxyPod{Idle: 1, Reserved: 1, Concurrency: 1, Owed: 3}, false, taken},
		"one more on a busy slot":                  {EproxyPod{Room: 1, Busy: 1, Concurrency: 2, Fallback: 1}, true, taken},
	} {
		for hook, prog := range map[EproxyHook]func(r *rig) *ebpf.Program{
			EproxyHookHOOK_XDP_DEVICE:   func(r *rig) *ebpf.Program { return r.objs.XdpDevice },
			EproxyHookHOOK_TC_DEVICE_IN: func(r *rig) *ebpf.Program { return r.objs.TcDeviceIn },
		} {
			r := newRig(t, false)
			p := c.pod
			p.Up, p.XdpOk, p.Ifindex, p.Proven, p.Depth = 1, 1, 1, 2, 2
			r.put(r.objs.Pods, uint32(0), &p)
			if c.busy {
				s := r.slot()
				s.State, s.Tail = uint32(EproxySlotStateSLOT_BUSY), 1
				r.put(r.objs.Slots, uint32(rigSlot), &s)
			}
			r.run(prog(r), r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x")))
			if r.reason(hook, c.want) != 1 {
				t.Errorf("%s, hook %d: %v", name, hook, r.allReasons())
			}
			if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
				t.Fatal(err)
			}
			if c.pod.Owed > 0 && p.Owed != c.pod.Owed-1 {
				t.Errorf("%s, hook %d: %d messages are owed after one of %d", name, hook, p.Owed, c.pod.Owed)
			}
			if p.Filling != c.pod.Filling || p.Busy&1 == 1 != (c.want == taken) {
				t.Errorf("%s, hook %d: filling %x, busy %x", name, hook, p.Filling, p.Busy)
			}
		}
	}
}

// TestNearPodsFirst: a message goes to a pod near by as long as one has an idle slot, then to one of the
// others, and the near one is asked for more slots meanwhile; where all are alike the two are compared.
func TestNearPodsFirst(t *testing.T) {
	const other = 1 // index of the pod beside the rig's, whose slots have no connection
	for name, c := range map[string]struct {
		pods  []uint32
		near  uint32
		idle  uint64 // the other one's slots
		taken bool   // by the rig's pod
		asked uint32 // the other one
	}{
		"the near one is idle":                 {[]uint32{rigSlot, other}, 1, 1, true, 0},
		"the near one is busy":                 {[]uint32{other, rigSlot}, 1, 0, true, 1},
		"the near one and the others are idle": {[]uint32{other, rigSlot}, 1, 2, false, 0},
		"all are alike":                        {[]uint32{other, rigSlot}, 0, 0, true, 0},
		"all are near":                         {[]uint32{other, rigSlot}, 2, 0, true, 0},
		"the list has become shorter":          {[]uint32{rigSlot}, 2, 1, true, 0},
	} {
		for range 16 { // which pods are looked at is random
			r := newRig(t, false)
			var fn EproxyFunction
			if err := r.objs.Functions.Lookup(uint32(0), &fn); err != nil {
				t.Fatal(err)
			}
			fn.PodCount, fn.Near = uint32(copy(fn.Pods[:], c.pods)), c.near
			r.put(r.objs.Functions, uint32(0), &fn)
			p := placesOf(2, 0)
			p.Idle, p.FirstSlot = c.idle, other
			r.put(r.objs.Pods, uint32(other), &p)
			r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x")))
			if taken := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN) == 1; taken != c.taken {
				t.Fatalf("%s: taken: %v; %v", name, taken, r.allReasons())
			}
			if err := r.objs.Pods.Lookup(uint32(other), &p); err != nil {
				t.Fatal(err)
			}
			if p.Asked != c.asked {
				t.Fatalf("%s: asked %d, want %d", name, p.Asked, c.asked)
			}
		}
	}
}

// TestWhoWaitsIsToldOnce: the response that makes a place free is an event if somebody
// waits for one: once, and only if there is a place. Where there is no room for the
// event it is still to come.
func TestWhoWaitsIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		concurrency uint16
		waiting     uint32
		full        bool // the ring
		want        int
	}{
		"a place":                        {1, 1, false, 1},
		"nobody waits":                   {1, 0, false, 0},
		"the fallback has what is there": {0, 1, false, 0},
		"no room for the event":          {1, 1, true, 0},
	} {
		r := newRig(t, false)
		p := placesOf(1, 0)
		r.put(r.objs.Pods, uint32(0), &p)
		_, req := r.take(t)
		r.pod(func(p *EproxyPod) { p.Waiting, p.Concurrency = c.waiting, c.concurrency })
		r.events()
		if c.full {
			r.fillAside()
		}
		response := r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))
		r.run(r.objs.TcPodIn, response)
		r.run(r.objs.TcPodIn, response) // again
		n := 0
		for _, e := range r.events() {
			if e.Kind == uint32(EproxyEventKindEVENT_PLACE) {
				n++
				if e.Conn != 0 {
					t.Errorf("%s: of pod %d", name, e.Conn)
				}
			}
		}
		if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
			t.Fatal(err)
		}
		if left := uint32(b2u(c.waiting == 1 && c.want == 0)); n != c.want || p.Waiting != left {
			t.Errorf("%s: told %d times, waiting %d: %v", name, n, p.Waiting, r.allReasons())
		}
	}
}

// fillAside is fillEvents, and leaves everything else as it was.
func (r *rig) fillAside() {
	r.t.Helper()
	s := r.slot()
	was, conn := s, r.readConn(rigSlot)
	var p EproxyPod
	if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
		r.t.Fatal(err)
	}
	s.State = uint32(EproxySlotStateSLOT_RETIRED)
	r.put(r.objs.Slots, uint32(rigSlot), &s)
	r.fillEvents()
	r.put(r.objs.Conns, uint32(rigSlot), &conn)
	r.put(r.objs.Slots, uint32(rigSlot), &was)
	r.put(r.objs.Pods, uint32(0), &p)
}

// TestSweeperFindsWhatWasNotSaid: events may be lost, for want of room in their ring.
// A slot that was retired, and a place that somebody waits for, are found.
func TestSweeperFindsWhatWasNotSaid(t *testing.T) {
	r := sweptRig(t, false, rigSlots, rigSlots)
	p := placesOf(1, 0)
	p.Waiting = 1
	r.put(r.objs.Pods, uint32(0), &p)
	s := r.slot()
	s.State = uint32(EproxySlotStateSLOT_RETIRED)
	r.put(r.objs.Slots, uint32(rigSlot), &s)
	r.put(r.objs.Slots, uint32(rigSlot+1), &s) // its connection is gone already
	r.attend(rigSlot, rigSlot+1)
	if ret, err := r.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		t.Fatalf("sweep_start: %d, %v", int32(ret), err)
	}
	places, retired := 0, map[uint32]int{}
	for late := time.Now().Add(time.Minute); retired[rigSlot] < 3; {
		if time.Now().After(late) {
			t.Fatalf("retired slots %v", retired)
		}
		for _, e := range r.events() {
			switch EproxyEventKind(e.Kind) {
			case EproxyEventKindEVENT_PLACE:
				places++
			case EproxyEventKindEVENT_SLOT:
				retired[e.Conn]++
			}
		}
	}
	if places != 1 || len(retired) != 1 {
		t.Errorf("told of a place %d times; retired slots: %v", places, retired)
	}
}

// TestSlotIsClosedOnlyWhenIdle: what is not needed is closed, never a slot that has a
// request in flight.
func TestSlotIsClosedOnlyWhenIdle(t *testing.T) {
	for state := EproxySlotStateSLOT_FREE; state <= EproxySlotStateSLOT_RETIRED; state++ {
		r := newRig(t, false)
		s := r.slot()
		s.State = uint32(state)
		r.put(r.objs.Slots, uint32(rigSlot), &s)
		a := r.slotControl(EproxySlotOpSLOT_OP_CLOSE, 0)
		closed := a.Ok == uint32(EproxySlotResultSLOT_CHANGED)
		if idle := state == EproxySlotStateSLOT_IDLE; closed != idle {
			t.Errorf("state %d: closed %t", state, closed)
		}
		var p EproxyPod
		if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
			t.Fatal(err)
		}
		if closed && (p.Idle != 0 || r.slot().State != uint32(EproxySlotStateSLOT_RETIRED)) {
			t.Errorf("closed, but idle %x, state %d", p.Idle, r.slot().State)
		}
	}
}

// TestLackOfSlotsIsSaidOnce: where no slot is idle, userspace is asked for more: once
// until it clears the flag, also where a busy slot takes the message; and again if
// the event was lost.
func TestLackOfSlotsIsSaidOnce(t *testing.T) {
	for name, c := range map[string]struct {
		pod   EproxyPod
		depth uint32 // of the pod, whose slot is busy; 0: it is idle
		full  bool   // the ring
		want  int
		asked uint32 // afterwards
	}{
		"one is idle":               {EproxyPod{Idle: 1, Concurrency: 2}, 0, false, 0, 0},
		"none is":                   {EproxyPod{Concurrency: 2}, 1, false, 1, 1},
		"a busy one has room":       {EproxyPod{Room: 1, Busy: 1, Concurrency: 2}, 2, false, 1, 1},
		"userspace knows":           {EproxyPod{Concurrency: 2, Asked: 1}, 1, false, 0, 1},
		"no room for the event":     {EproxyPod{Concurrency: 2}, 1, true, 0, 0},
		"there are places, no more": {EproxyPod{Idle: 1, Concurrency: 1, Fallback: 1}, 0, false, 0, 0},
	} {
		r := newRig(t, false)
		p := c.pod
		p.Up, p.XdpOk, p.Ifindex, p.Proven, p.Depth = 1, 1, 1, c.depth, c.depth
		r.put(r.objs.Pods, uint32(0), &p)
		if c.depth > 0 {
			s := r.slot()
			s.State, s.Tail = uint32(EproxySlotStateSLOT_BUSY), 1
			r.put(r.objs.Slots, uint32(rigSlot), &s)
		}
		r.events()
		if c.full {
			r.fillAside()
		}
		message := publish("sensors/a/temp", 0, 0, "x")
		for range 3 { // the first one is taken, or none
			r.run(r.objs.TcDeviceIn, r.fromDevice(r.readConn(rigDevice).RxNxt, "PA", message))
			if c.want == 0 {
				break
			}
		}
		n := 0
		for _, e := range r.events() {
			if e.Kind == uint32(EproxyEventKindEVENT_SLOTS) {
				n++
			}
		}
		if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
			t.Fatal(err)
		}
		if n != c.want || p.Asked != c.asked {
			t.Errorf("%s: asked %d times, flag %d: %v", name, n, p.Asked, r.allReasons())
		}
	}
}

// TestPlaceThatWasNotSaid: where the event of a place is lost the sweeper will look at the pod.
func TestPlaceThatWasNotSaid(t *testing.T) {
	for _, full := range []bool{false, true} {
		r := sweptRig(t, false, rigSlots, rigSlots)
		if full {
			r.fillAside()
			r.put(r.objs.Attention, uint32(0), uint64(0))
		}
		p := placesOf(1, 0)
		p.Up, p.Waiting, p.Idle = 1, 1, 0
		r.put(r.objs.Pods, uint32(0), &p)
		r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 0, 0, "x")))
		if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
			t.Fatal(err)
		}
		if lost := p.Waiting == 1; lost != full || slices.Contains(r.attended(), 0) != full {
			t.Errorf("ring full %t: lost %t, the sweeper looks at %v: %v", full, lost, r.attended(), r.allReasons())
		}
	}
}

// TestSweeperFindsStalled: the first response on a connection that takes longer than
// userspace's patience is an event, once; a later one may take its time.
func TestSweeperFindsStalled(t *testing.T) {
	r := sweptRig(t, false, rigSlots, rigSlots)
	p := placesOf(64, 0)
	p.StallMs = 250
	r.put(r.objs.Pods, uint32(0), &p)
	message := func(slot uint32, age time.Duration, responded uint64) {
		s := EproxySlot{State: uint32(EproxySlotStateSLOT_BUSY), Tail: 1, RespondedNs: responded}
		s.Messages[0] = EproxyMessage{TakenNs: uint64(monotonic() - age.Nanoseconds()), Acked: 1}
		r.put(r.objs.Slots, slot, &s)
	}
	message(1, time.Second, 0)
	message(2, time.Second, 1) // it has answered before
	message(3, -time.Hour, 0)  // it was just sent
	s := r.slot()
	s.State = uint32(EproxySlotStateSLOT_RETIRED) // passes are counted by what is found of it
	r.put(r.objs.Slots, uint32(rigSlot), &s)
	r.attend(rigSlot, 1, 2, 3)
	if ret, err := r.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		t.Fatalf("sweep_start: %d, %v", int32(ret), err)
	}
	stalled, passes := map[uint32]int{}, 0
	for late := time.Now().Add(time.Minute); passes < 3; {
		if time.Now().After(late) {
			t.Fatal("the sweeper does not run")
		}
		for _, e := range r.events() {
			switch EproxyEventKind(e.Kind) {
			case EproxyEventKindEVENT_STALLED:
				stalled[e.Conn]++
			case EproxyEventKindEVENT_SLOT:
				passes++
			}
		}
	}
	if len(stalled) != 1 || stalled[1] != 1 {
		t.Errorf("stalled: %v", stalled)
	}
}
