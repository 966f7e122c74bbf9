package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"eproxy/internal/bpf"
)

// copyHead is where the packet begins in a record of the ring copies.
const copyHead = int(unsafe.Offsetof(bpf.EproxyCopy{}.Bytes))

// startCopies gives the MQTT server the copies for subscribers until Close.
func (p *Plane) startCopies() error {
	r, err := ringbuf.NewReader(p.path.Objects.Copies)
	if err != nil {
		return fmt.Errorf("open ring of copies: %w", err)
	}
	p.run.wg.Go(func() {
		<-p.run.ctx.Done()
		_ = r.Close()
	})
	p.run.wg.Go(func() { p.readCopies(r) })
	return nil
}

// copiesLook is how long at most the ring of copies is not looked at: clients wait for what is in it, and so nothing is to depend on a
// wake-up alone.
const copiesLook = time.Second

// readCopies hands over each copy, until the ring is closed. The programs wake it when it has read all that there was.
func (p *Plane) readCopies(r *ringbuf.Reader) {
	var rec ringbuf.Record
	for {
		r.SetDeadline(time.Now().Add(copiesLook))
		err := r.ReadInto(&rec)
		switch {
		case err == nil:
			p.handCopy(rec.RawSample)
		case errors.Is(err, ringbuf.ErrClosed):
			return
		case !errors.Is(err, os.ErrDeadlineExceeded):
			p.often.Warn("ring of copies cannot be read", "", "error", err)
			select {
			case <-time.After(copiesLook):
			case <-p.run.ctx.Done():
				return
			}
		}
	}
}

// handCopy hands over one record.
func (p *Plane) handCopy(b []byte) {
	if len(b) < copyHead {
		p.log.Error("copy of unknown form", "bytes", len(b))
		return
	}
	var e bpf.EproxyCopy
	e.Conn, e.Gen, e.Len = binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:])
	d := p.devices.Copied(e.Conn, e.Gen)
	switch {
	case d == nil: // of a loader that was killed, and so were the sessions
		p.often.Warn("a copy for subscribers was left by a loader that has ended, and dropped: they have gone with it", "")
	case int(e.Len) > len(b)-copyHead:
		p.log.Error("copy of unknown form", "client", d.Info.ClientID, "bytes", len(b), "length", e.Len)
		d.Info.Copy(nil) // it was counted, and is waited for
	default:
		d.Info.Copy(b[copyHead : copyHead+int(e.Len)])
	}
}
