package dataplane

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"eproxy/internal/bpf"
	"eproxy/internal/delivery"
)

// sweepInterval is how often overdue acknowledgements, PUBACKs and requests
// are looked for.
const sweepInterval = 100 * time.Millisecond

// startEvents reads what the programs hand over until Close.
func (p *Plane) startEvents() error {
	r, err := ringbuf.NewReader(p.objs.Events)
	if err != nil {
		return fmt.Errorf("open event ring: %w", err)
	}
	p.wg.Add(2)
	go func() {
		defer p.wg.Done()
		<-p.ctx.Done()
		_ = r.Close()
	}()
	go func() {
		defer p.wg.Done()
		var rec ringbuf.Record
		for {
			if err := r.ReadInto(&rec); err != nil {
				if !errors.Is(err, ringbuf.ErrClosed) {
					p.log.Error("event ring", "error", err)
				}
				return
			}
			var e bpf.EproxyEvent
			if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e); err != nil {
				p.log.Error("event of unknown form", "error", err)
				continue
			}
			p.handle(&e)
		}
	}()
	return nil
}

func (p *Plane) handle(e *bpf.EproxyEvent) {
	switch bpf.EproxyEventKind(e.Kind) {
	case bpf.EproxyEventKindEVENT_PUBACK:
		if d := p.conns.get(e.Conn, e.Gen); d != nil {
			d.info.Complete(e.PacketId, delivery.Outcome{Acked: true})
		}
	case bpf.EproxyEventKindEVENT_SLOT:
		if s := p.slotByIndex(e.Conn); s != nil {
			s.attention(e.Gen)
		}
	case bpf.EproxyEventKindEVENT_BROKEN:
		if d := p.conns.get(e.Conn, e.Gen); d != nil {
			p.log.Warn("bytes bypassed the programs, connection aborted", "client", d.info.ClientID)
			d.info.Abort()
		}
	case bpf.EproxyEventKindEVENT_SEND:
		if err := p.sender.Send(int(e.Ifindex), e.Frame[:e.FrameLen]); err != nil {
			p.log.Debug("sending an overdue segment", "error", err)
		}
	}
}

// sweepLoop looks for what is overdue. The kernel path has no timers.
func (p *Plane) sweepLoop() {
	defer p.wg.Done()
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	n := 0
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
		}
		p.sweepRange(0, p.slotsInUse())
		p.conns.mu.Lock()
		first, high := p.conns.first, p.conns.high
		p.conns.mu.Unlock()
		p.sweepRange(first, high-first)
		p.sweepSlots()
		if n++; n%10 == 0 {
			p.conns.reap(p, time.Now())
		}
	}
}

func (p *Plane) sweepRange(first, count uint32) {
	if count == 0 {
		return
	}
	args := bpf.EproxySweepArgs{First: first, Count: count}
	if _, err := p.objs.Sweep.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		p.log.Error("sweep", "error", err)
	}
}
