package dataplane

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/ringbuf"

	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/delivery"
)

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
		if d := p.devices.Get(e.Conn, e.Gen); d != nil {
			d.Info.Complete(e.PacketId, broker.Hold(e.Hold), delivery.Outcome{Acked: true})
		}
	case bpf.EproxyEventKindEVENT_SLOT:
		if s := p.slotByIndex(e.Conn); s != nil {
			s.attention(e.Gen)
		}
	case bpf.EproxyEventKindEVENT_BROKEN:
		if d := p.devices.Get(e.Conn, e.Gen); d != nil {
			p.log.Warn("bytes bypassed the programs, connection aborted", "client", d.Info.ClientID)
			d.Info.Abort()
		}
	case bpf.EproxyEventKindEVENT_OVERDUE, bpf.EproxyEventKindEVENT_TRIAL:
		only := bpf.EproxyTakeOnlyTAKE_OVERDUE
		if bpf.EproxyEventKind(e.Kind) == bpf.EproxyEventKindEVENT_TRIAL {
			only = bpf.EproxyTakeOnlyTAKE_TRIAL
		}
		if s := p.slotByIndex(e.Conn); s != nil {
			p.wg.Add(1)
			go func() {
				defer p.wg.Done()
				s.overdue(e.Gen, only)
			}()
		}
	case bpf.EproxyEventKindEVENT_PLACE:
		if ps := p.table.Pod(e.Conn); ps != nil {
			p.own.Wake(ps.id.Function)
		}
	case bpf.EproxyEventKindEVENT_SLOTS:
		if ps := p.table.Pod(e.Conn); ps != nil {
			ps.grow()
		}
	case bpf.EproxyEventKindEVENT_PROVEN:
		if ps := p.table.Pod(e.Conn); ps != nil {
			ps.proved()
		}
	case bpf.EproxyEventKindEVENT_STALLED:
		if s := p.slotByIndex(e.Conn); s != nil {
			s.pod.slotStalled(s, e.Gen)
		}
	case bpf.EproxyEventKindEVENT_LOST:
		p.resend(e.Conn, e.Gen)
	case bpf.EproxyEventKindEVENT_PARKED:
		if q := p.queues.table[e.Conn].Load(); q != nil {
			q.tend()
		}
	case bpf.EproxyEventKindEVENT_ROOM:
		p.wg.Go(p.moreParked) // the kernel waits for all processors
	case bpf.EproxyEventKindEVENT_SEND:
		if err := p.sender.Send(int(e.Ifindex), e.Frame[:e.FrameLen]); err != nil {
			p.log.Debug("sending an overdue segment", "error", err)
		}
	}
}
