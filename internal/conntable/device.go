package conntable

import (
	"net/netip"
	"sync/atomic"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/clock"
)

// Device is one client's connection that may be grafted. It implements
// broker.Graft.
type Device struct {
	// Info is what the MQTT server said of the connection.
	Info broker.ConnInfo

	table         *Devices
	index         uint32
	gen           uint32
	local, remote netip.AddrPort
	tuple         bpf.EproxyTuple
	closedAt      time.Time // guarded by Devices.mu
	copied        uint32    // copies for subscribers that were read, modulo 2^32; guarded by Devices.mu
	made          uint32    // that there are, once released is set
	released      atomic.Bool
	aliases       aliases // used by the goroutine that reads the connection
}

var (
	_ broker.Grafter = (*Devices)(nil)
	_ broker.Graft   = (*Device)(nil)
)

// control runs the control program of devices' connections, and returns its results.
func (d *Device) control(args bpf.EproxyDeviceArgs) bpf.EproxyDeviceArgs {
	args.Conn, args.Gen = d.index, d.gen
	if err := d.table.kernel.control(&args); err != nil {
		d.unheard(err)
	}
	return args
}

// unheard ends the connection, since the programs could not be notified of a change: what must not be taken any more must
// not, so nothing of this connection is.
func (d *Device) unheard(err error) {
	d.table.log.Error("connection aborted, the programs could not be notified of a change", "client", d.Info.ClientID, "error", err)
	go d.Info.Abort() // which comes back here, and whoever called may hold a lock
}

// Boundary notifies the programs where an MQTT packet begins, if they lost track.
func (d *Device) Boundary(read uint64) {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_BOUNDARY), Read: read})
}

// Clear lets the programs take messages of ordered and also_broker routes that follow what was read; broker.Graft.
func (d *Device) Clear(read uint64) bool {
	return d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_CLEAR), Read: read}).Ok == 1
}

// Behind has the server take what follows of also_broker routes, until Clear; broker.Graft.
func (d *Device) Behind() {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_BEHIND)})
}

// Authorize gives the client other rights; broker.Graft.
func (d *Device) Authorize(rights uint32) {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_RIGHTS), Rights: rights})
}

// Hold enters a QoS 1 message of the fallback; broker.Graft.
func (d *Device) Hold(packetID uint16, dup bool) (h broker.Hold, repeated bool) {
	args := d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_HOLD), PacketId: packetID, Dup: uint16(bpf.Flag(dup)), Hold: abi.HoldNone})
	return broker.Hold(args.Hold), args.Repeated == 1
}

// Release ends a message; broker.Graft.
func (d *Device) Release(h broker.Hold) bool {
	return d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_RELEASE), Hold: uint32(h)}).Ok == 1
}

// Stop ends taking; broker.Graft.
func (d *Device) Stop() {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_STOP)})
}

// LastReceive is when the kernel last took a message of this client; zero: it never did.
func (d *Device) LastReceive() time.Time {
	ns := d.table.kernel.lastTake(d.index)
	if ns == 0 {
		return time.Time{}
	}
	return time.Now().Add(ns - clock.Monotonic())
}

// Granted lets the kernel take this topic from this client while it has these
// rights.
func (d *Device) Granted(topic string, rights uint32) {
	key := bpf.EproxyGrantKey{Conn: d.index, Gen: d.gen, Rights: rights, Len: uint32(len(topic))}
	if copy(key.Topic[:], topic) < len(topic) {
		return
	}
	if err := d.table.kernel.grant(&key); err != nil {
		d.table.log.Warn("granting a topic", "error", err)
	}
}

// Close is called when the socket is closed. After a RST the entry is free at
// once; else translation goes on for closingTime.
func (d *Device) Close() { d.table.close(d, time.Now()) }
