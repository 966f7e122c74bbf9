package bpf

import (
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
)

// trialRig is a rig whose pod is on trial: it has shown nothing yet, its one slot has answered before.
func trialRig(t *testing.T) *rig {
	r := newRig(t, false)
	r.pod(func(p *EproxyPod) {
		p.Proven, p.Depth, p.Trial, p.WaitNs, p.Wanted = 1, 2, 1, uint32(50*time.Millisecond), 2
	})
	s := r.slot()
	s.RespondedNs, s.ServiceNs = uint64(monotonic()), 1000
	r.put(r.objs.Slots, uint32(rigSlot), &s)
	return r
}

// offer gives the device's next message to TC and says whether it was taken.
func (r *rig) offer(qos byte, id uint16) bool {
	ret, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(r.readConn(rigDevice).RxNxt, "PA", publish("sensors/a/temp", qos, id, "x")))
	return ret == tcRedirect
}

// respond has the pod answer n requests when its TCP has acknowledged all up to this place of the slot's stream.
func (r *rig) respond(t *testing.T, n int, ack uint32) {
	t.Helper()
	head := r.slot().Head
	r.run(r.objs.TcPodIn, r.fromPod(r.readConn(rigSlot).RxNxt, ack, "PA", []byte(strings.Repeat(okResponse, n))))
	if got := r.slot().Head - head; got != uint32(n) {
		t.Fatalf("%d of %d responses: %v", got, n, r.allReasons())
	}
}

// TestTrial: what may stand behind a request, and in front of another one, on a connection
// to a pod that has not shown yet that it answers several in order.
func TestTrial(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(r *rig)
		qos   []byte // of the messages
		taken int    // the first so many
	}{
		"two of QoS 1":                    {nil, []byte{1, 1}, 2},
		"three of QoS 1":                  {nil, []byte{1, 1, 1}, 2},
		"QoS 0 behind":                    {nil, []byte{1, 0}, 1},
		"QoS 0 in front":                  {nil, []byte{0, 1}, 1},
		"QoS 0 alone":                     {nil, []byte{0}, 1},
		"no trial":                        {func(r *rig) { r.pod(func(p *EproxyPod) { p.Trial = 0 }) }, []byte{1, 1}, 1},
		"the trial is another slot's":     {func(r *rig) { r.pod(func(p *EproxyPod) { p.Trial = 2 }) }, []byte{1, 1}, 1},
		"two are proven, any QoS":         {proven(2, 0), []byte{0, 1, 0}, 2},
		"two are proven, four are tried":  {proven(2, 1), []byte{1, 1, 1, 1, 1}, 4},
		"two are proven, QoS 0 is spared": {proven(2, 1), []byte{1, 0}, 1},
		"proven, a slow pod": {func(r *rig) {
			proven(2, 0)(r)
			s := r.slot()
			s.ServiceNs = uint32(51 * time.Millisecond)
			r.put(r.objs.Slots, uint32(rigSlot), &s)
		}, []byte{1, 1}, 1},
		"proven, nothing was answered on the connection": {func(r *rig) {
			proven(2, 0)(r)
			s := r.slot()
			s.RespondedNs = 0
			r.put(r.objs.Slots, uint32(rigSlot), &s)
		}, []byte{1, 1}, 1},
		"proven, as many as the pod answers": {func(r *rig) {
			proven(2, 0)(r)
			r.pod(func(p *EproxyPod) { p.Quota = 1 })
		}, []byte{1, 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := trialRig(t)
			if c.spoil != nil {
				c.spoil(r)
			}
			taken := 0
			for i, qos := range c.qos {
				if !r.offer(qos, uint16(i+1)) {
					break
				}
				taken++
			}
			if taken != c.taken {
				t.Errorf("%d were taken, want %d: %v", taken, c.taken, r.allReasons())
			}
		})
	}
}

// proven makes a pod that has shown that it answers so many, and is on trial with twice as many on
// the slots of the mask.
func proven(n uint32, trial uint64) func(r *rig) {
	return func(r *rig) {
		r.pod(func(p *EproxyPod) {
			p.Proven, p.Depth, p.Trial = n, n, trial
			if trial != 0 {
				p.Depth = 2 * n
			}
		})
	}
}

// TestTrialsAreCounted: the answer to a trial proves something if the pod's TCP had acknowledged its request
// when the pod answered another one. Userspace is told once as many came as it wants.
func TestTrialsAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		inHand, together bool
		want             int32 // fewer are wanted
	}{
		"in the pod's hands":       {true, false, 1},
		"one after the other":      {false, false, 0},
		"answered in one segment":  {true, true, 1},
		"both, but none is wanted": {true, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := trialRig(t)
			wanted := int32(2)
			if name == "both, but none is wanted" {
				wanted = 0
				r.pod(func(p *EproxyPod) { p.Wanted = 0 })
			}
			start := r.readConn(rigSlot).TxNxt
			r.offer(1, 1)
			first := r.readConn(rigSlot).TxNxt
			r.offer(1, 2)
			second := r.readConn(rigSlot).TxNxt
			if first == start || second == first {
				t.Fatalf("not taken: %v", r.allReasons())
			}
			switch {
			case c.together:
				r.respond(t, 2, second)
			case c.inHand:
				r.respond(t, 1, second)
				r.respond(t, 1, second)
			default:
				r.respond(t, 1, first)
				r.respond(t, 1, second)
			}
			if got := wanted - r.readPod().Wanted; got != c.want {
				t.Errorf("%d fewer are wanted, want %d", got, c.want)
			}
		})
	}
}

// TestProvenIsToldOnce: with the last answer that was wanted; where there is no room for the
// event, with the next one.
func TestProvenIsToldOnce(t *testing.T) {
	r := trialRig(t)
	id := uint16(0)
	pair := func() (told int) {
		for range 2 {
			id++
			if !r.offer(1, id) {
				t.Fatalf("not taken: %v", r.allReasons())
			}
		}
		ack := r.readConn(rigSlot).TxNxt
		r.respond(t, 1, ack)
		r.respond(t, 1, ack)
		for _, e := range r.events() {
			if e.Kind == uint32(EproxyEventKindEVENT_PROVEN) && e.Conn == 0 {
				told++
			}
		}
		return told
	}
	r.events()
	for i, want := range []int{0, 1, 0, 0} {
		if told := pair(); told != want {
			t.Errorf("pair %d: told %d times, want %d", i, told, want)
		}
	}
	r.pod(func(p *EproxyPod) { p.Wanted = 1 })
	r.offer(1, 100)
	r.offer(1, 101)
	r.fillAside()
	ack := r.readConn(rigSlot).TxNxt
	r.respond(t, 1, ack)
	r.respond(t, 1, ack)
	if r.readPod().Wanted != 1 {
		t.Errorf("%d are wanted after an event was lost", r.readPod().Wanted)
	}
}

// TestTrialsArePairs: nothing is added to a trial with two once the first of them is answered: a pod that
// forgot the second would answer what is added in its place.
func TestTrialsArePairs(t *testing.T) {
	r := trialRig(t)
	r.offer(1, 1)
	r.offer(1, 2)
	ack := r.readConn(rigSlot).TxNxt
	r.respond(t, 1, ack)
	if r.offer(1, 3) {
		t.Error("a third one stands behind the second")
	}
	r.respond(t, 1, ack)
	if !r.offer(1, 4) || !r.offer(1, 5) {
		t.Errorf("no other pair: %v", r.allReasons())
	}
}

// TestLessAtOnce: a program that still sees room, which a pod in trouble no longer has, makes no request, and no
// other one looks again.
func TestLessAtOnce(t *testing.T) {
	r := trialRig(t)
	proven(8, 0)(r)
	r.offer(1, 1)
	if p := r.readPod(); p.Room != 1 {
		t.Fatalf("room %#x", p.Room)
	}
	r.pod(func(p *EproxyPod) { p.Proven, p.Depth = 1, 1 })
	if r.offer(1, 2) {
		t.Error("a second request")
	}
	if p := r.readPod(); p.Room != 0 || r.slot().Tail-r.slot().Head != 1 {
		t.Errorf("room %#x, %d in flight", p.Room, r.slot().Tail-r.slot().Head)
	}
}

// TestTrialOverdue: one that is not answered within the pod's patience since it answered another one, or
// within four times that. What is found is taken over only if it is still so.
func TestTrialOverdue(t *testing.T) {
	ago := func(d time.Duration) uint64 { return uint64(monotonic() - d.Nanoseconds()) }
	for name, c := range map[string]struct {
		taken, responded time.Duration // before now
		state            EproxySlotState
		trial            uint32
		want             bool
	}{
		"just answered one":                {500 * time.Millisecond, 200 * time.Millisecond, EproxySlotStateSLOT_BUSY, 1, false},
		"answered one long ago":            {500 * time.Millisecond, 300 * time.Millisecond, EproxySlotStateSLOT_BUSY, 1, true},
		"answered none":                    {900 * time.Millisecond, 10 * time.Second, EproxySlotStateSLOT_BUSY, 1, false},
		"answered none for long":           {1100 * time.Millisecond, 10 * time.Second, EproxySlotStateSLOT_BUSY, 1, true},
		"no trial":                         {1100 * time.Millisecond, 10 * time.Second, EproxySlotStateSLOT_BUSY, 0, false},
		"userspace has answered the first": {1100 * time.Millisecond, 10 * time.Second, EproxySlotStateSLOT_TAKEN_OVER, 1, true},
		"a response is on its way":         {1100 * time.Millisecond, 10 * time.Second, EproxySlotStateSLOT_RESPONDING, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := trialRig(t)
			r.pod(func(p *EproxyPod) { p.StallMs, p.TimeoutMs, p.UnackedMs = 250, 60000, 60000 })
			s := EproxySlot{State: uint32(c.state), Tail: 1, Trial: c.trial, RespondedNs: ago(c.responded)}
			s.Messages[0] = EproxyMessage{TakenNs: ago(c.taken), Acked: 1, Qos: 1, Origin: abi.NoIndex, Company: uint8(EproxyCompanyCOMPANY_TRIAL)}
			r.put(r.objs.Slots, uint32(rigSlot), &s)
			args := EproxySlotArgs{Slot: rigSlot, Gen: 1, Op: uint32(EproxySlotOpSLOT_OP_TAKE_OVER), Only: uint32(EproxyTakeOnlyTAKE_TRIAL)}
			if _, err := r.objs.SlotControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
				t.Fatal(err)
			}
			if got := args.Ok == uint32(EproxySlotResultSLOT_CHANGED); got != c.want {
				t.Errorf("taken over: %v, want %v", got, c.want)
			}
		})
	}
}
