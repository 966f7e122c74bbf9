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
	mark, err := bpf.Knob(p.path.Spec, "knob_mark")
	if err != nil {
		return err
	}
	sender, err := newFrameSender(mark)
	if err != nil {
		return err
	}
	r, err := ringbuf.NewReader(p.path.Objects.Events)
	if err != nil {
		return errors.Join(fmt.Errorf("open event ring: %w", err), sender.Close())
	}
	p.run.wg.Go(func() {
		<-p.run.ctx.Done()
		_ = r.Close()
	})
	p.run.wg.Go(func() {
		defer sender.Close()
		p.readEvents(r, sender)
	})
	return nil
}

// readEvents does what events ask for, until the ring is closed.
func (p *Plane) readEvents(r *ringbuf.Reader, sender *frameSender) {
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
		if !p.slots.Handle(&e) {
			p.handle(&e, sender)
		}
	}
}

// handle does what events ask for that are not about a slot.
func (p *Plane) handle(e *bpf.EproxyEvent, sender *frameSender) {
	switch bpf.EproxyEventKind(e.Kind) {
	case bpf.EproxyEventKindEVENT_PUBACK:
		if d := p.devices.Get(e.Conn, e.Gen); d != nil {
			d.Info.Complete(e.PacketId, broker.Hold(e.Hold), delivery.Outcome{Acked: true})
		}
	case bpf.EproxyEventKindEVENT_BROKEN:
		if d := p.devices.Get(e.Conn, e.Gen); d != nil {
			p.log.Warn("bytes bypassed the programs, connection aborted", "client", d.Info.ClientID)
			d.Info.Abort()
		}
	case bpf.EproxyEventKindEVENT_PLACE:
		if name, ok := p.slots.Function(e.Conn); ok {
			p.own.Wake(name)
		}
	case bpf.EproxyEventKindEVENT_PARKED:
		p.queues.Tend(e.Conn)
	case bpf.EproxyEventKindEVENT_LINE:
		p.queues.Moved(uint64(e.Gen)<<32 | uint64(e.Conn))
	case bpf.EproxyEventKindEVENT_ROOM:
		p.run.wg.Go(p.queues.MoreRoom) // the kernel waits for all processors
	case bpf.EproxyEventKindEVENT_SEND:
		if err := sender.Send(int(e.Ifindex), e.Frame[:e.FrameLen]); err != nil {
			p.log.Debug("sending an overdue segment", "error", err)
		}
	}
}
