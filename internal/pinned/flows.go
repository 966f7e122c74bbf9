package pinned

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/reason"
)

// Flow is one device's connection.
type Flow struct {
	Index         uint32
	Client        string
	Local, Remote netip.AddrPort
	State         string
	Taken         uint64
	InFlight      int
	Removed       uint32 // bytes taken out of its stream, modulo 2^32
	Inserted      uint32 // bytes put into the stream towards it
	Lost          bool   // message boundary unknown
	Gen           uint32 // of the entry's use
	InFlightMax   int    // messages
	Stopped       bool   // nothing more is taken of it: its session is over, or something broke
	Rights        uint32 // version of what its client may do, and
	RightsAll     bool   // whether that is everything
	NotTaken      string // reason of the latest message that the programs left to the server; empty: none
}

var connStates = []string{"free", "armed", "open", "closed"}

// ending are the flags of a connection one of whose ends has sent FIN.
const ending = uint32(bpf.EproxyConnFlagCONN_FIN_SENT | bpf.EproxyConnFlagCONN_FIN_SEEN)

// stopped are the flags of a connection of which nothing more is taken.
const stopped = uint32(bpf.EproxyConnFlagCONN_NO_TAKE | bpf.EproxyConnFlagCONN_BROKEN)

// FlowStates are all that a Flow's state may be.
var FlowStates = []string{"armed", "open", "closing", "closed"}

// flowState is a connection's state, as users see it: that of one which is over, and
// only kept for what may still be repeated, is closed.
func flowState(c *bpf.EproxyConn) string {
	if c.State == uint16(bpf.EproxyConnStateCONN_OPEN) {
		switch c.Flags & ending {
		case ending:
			return "closed"
		case 0:
		default:
			return "closing"
		}
	}
	return connStates[c.State]
}

// Flows are the devices' connections that the kernel path knows.
func (m *Maps) Flows() ([]Flow, error) {
	var out []Flow
	g, err := m.Settings()
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	conns := m.conns.Pass()
	for index := m.slots; index < g.ConnsEnd; index++ {
		c, err := connOf(conns, index)
		if err != nil {
			return nil, err
		}
		if c.State == 0 || int(c.State) >= len(connStates) {
			continue
		}
		var d bpf.EproxyDevice
		if err := m.devices.Lookup(index-m.slots, &d, 0); err != nil {
			return nil, fmt.Errorf("read device %d: %w", index, err)
		}
		client, _, _ := strings.Cut(text(d.Sender[:], uint32(d.SenderLen[0])), "\r\n") // the user name's header follows
		notTaken := ""
		if r := int(d.NotTaken); r > 0 && r < len(reason.All) {
			notTaken = reason.All[r].Name
		}
		out = append(out, Flow{NotTaken: notTaken, Index: index, Client: client, Gen: c.Gen, InFlightMax: int(d.InflightMax), Rights: d.Rights,
			RightsAll: d.Rights&uint32(bpf.EproxyRightRIGHTS_ALL) != 0, Stopped: d.Stopped != 0 || c.Flags&stopped != 0, Local: addrPort(c.Tuple.Local, c.Tuple.LocalPort),
			Remote: addrPort(c.Tuple.Remote, c.Tuple.RemotePort), State: flowState(&c), Taken: uint64(d.Taken), InFlight: int(c.InFlight),
			Removed: c.Rx.Base, Inserted: c.Tx.Base, Lost: c.State == uint16(bpf.EproxyConnStateCONN_OPEN) && c.Flags&uint32(bpf.EproxyConnFlagCONN_LOST) != 0 && c.Flags&ending == 0})
	}
	return out, nil
}

// Granted says whether the programs know that the connection's client may publish to a topic.
func (m *Maps) Granted(f Flow, topic string) (bool, error) {
	key := bpf.EproxyGrantKey{Conn: f.Index, Gen: f.Gen, Rights: f.Rights, Len: uint32(len(topic))}
	if copy(key.Topic[:], topic) < len(topic) {
		return false, nil
	}
	var is uint32
	err := m.maps["grants"].Lookup(&key, &is)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, fmt.Errorf("read grants: %w", err)
	}
	return err == nil, nil
}

// connOf is the entry of a connection, read under its lock.
func connOf(conns *chunk.Pass, index uint32) (bpf.EproxyConn, error) {
	var c bpf.EproxyConn
	if err := conns.Lookup(index, &c, ebpf.LookupLock); err != nil {
		return c, fmt.Errorf("read connection %d: %w", index, err)
	}
	return c, nil
}
