package slots

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"eproxy/internal/bpf"
)

// Rest is a pod whose processes are frozen, or about to be. It stays in service: the kernel keeps what it gets, and
// whoever has something for it wakes it: a program that has sent it a request, the fallback, or anybody that
// connects to it.
type Rest struct {
	ps     *Pod
	wake   func()
	roused atomic.Bool // by userspace
}

// Rest puts a pod to sleep that has nothing to do, and closes its connections. busy: it has something to do, or gets
// messages of late; nil: it has no slots, and cannot sleep in service. wake lets its processes go on: it is
// called at any time, by any goroutine, perhaps several times, and also when End has returned.
func (p *Pods) Rest(function string, pod netip.AddrPort, wake func()) (r *Rest, busy bool) {
	ps := p.named(ID{Function: function, Address: pod})
	if ps == nil || !ps.seen.Load() {
		return nil, false
	}
	r = &Rest{ps: ps, wake: wake}
	if !ps.rest.CompareAndSwap(nil, r) {
		return nil, true
	}
	err := p.Objects.Asleep.Put(ps.doorbell(), ps.index)
	if err == nil {
		var asleep bool
		if asleep, err = p.podControl(bpf.EproxyPodOpPOD_OP_REST, ps.index); err == nil && asleep && ps.scale.LieDown() {
			return r, false
		}
	}
	if err != nil {
		p.Often.Warn("pod cannot sleep", err.Error(), "function", function, "pod", pod, "error", err)
	}
	r.End()
	return nil, true
}

// doorbell is the pod's key in the map of those that are asleep.
func (ps *Pod) doorbell() bpf.EproxyListener {
	return bpf.EproxyListener{Address: bpf.Address(ps.id.Address.Addr()), Port: bpf.Port(ps.id.Address.Port())}
}

// Settle makes a connection to the pod, whose processes are frozen now: it waits where the server accepts it, and
// no clock of the server's runs for it. It returns when it is made, could not be, or ctx ends.
func (r *Rest) Settle(ctx context.Context) { r.ps.scale.StandBy(ctx) }

// End says that the pod's processes run. What waits for it is looked at.
func (r *Rest) End() {
	ps := r.ps
	if ps.gone.Load() { // its entry is made anew for the next one
	} else if _, err := ps.all.podControl(bpf.EproxyPodOpPOD_OP_AWAKE, ps.index); err != nil {
		ps.log.Error("pod stays asleep for the programs", "error", err)
	}
	if err := ps.all.Objects.Asleep.Delete(ps.doorbell()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		ps.log.Debug("pod is still said to be asleep", "error", err)
	}
	ps.rest.CompareAndSwap(r, nil)
	ps.scale.Rise()
	ps.Freed()
}

// rouse wakes a pod that is asleep: the fallback has a request for it, or it goes out of service. The freezer is
// written to in the background: the kernel may be busy with control groups, and who calls this holds locks.
func (ps *Pod) rouse() {
	r := ps.rest.Load()
	if r == nil || r.roused.Swap(true) {
		return
	}
	if _, err := ps.all.podControl(bpf.EproxyPodOpPOD_OP_WAKE, ps.index); err != nil {
		ps.all.Often.Warn("pod that is woken", err.Error(), "error", err)
	}
	go r.wake()
}

// podControl runs the control program of pods. It says whether the state was changed.
func (p *Pods) podControl(op bpf.EproxyPodOp, index uint32) (bool, error) {
	args := bpf.EproxyPodArgs{Pod: index, Op: uint32(op)}
	if _, err := p.Objects.PodControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		return false, fmt.Errorf("pod control: %w", err)
	}
	return args.Ok != 0, nil
}

// StartWakes wakes the pods that the programs say are to be, until Close. It has a thread of its own, that does nothing
// else and waits in the kernel: nobody's work stands between the event and the wake-up.
func (p *Pods) StartWakes() error {
	r, err := ringbuf.NewReader(p.Objects.Wakes)
	if err != nil {
		return fmt.Errorf("open ring of wake-ups: %w", err)
	}
	p.wg.Go(func() {
		<-p.ctx.Done()
		_ = r.Close()
	})
	p.wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var rec ringbuf.Record
		for {
			if err := r.ReadInto(&rec); err != nil {
				if !errors.Is(err, ringbuf.ErrClosed) {
					p.Log.Error("ring of wake-ups", "error", err)
				}
				return
			}
			p.wakePod(rec.RawSample)
		}
	})
	return nil
}

// wakePod wakes the pod that an event of the ring names.
func (p *Pods) wakePod(event []byte) {
	const conn = 4 // where struct event has it
	if len(event) < conn+4 {
		return
	}
	index := binary.NativeEndian.Uint32(event[conn:])
	if index >= uint32(p.table.Size()) {
		return
	}
	if ps := p.table.Pod(index); ps != nil {
		if r := ps.rest.Load(); r != nil {
			r.wake()
		}
	}
}
