package neighbours

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/conntable"
	"eproxy/internal/lograte"
)

// macOf is a link address.
type macOf [6]byte

// neighbour names an entry of the kernel's neighbour tables (ARP, NDP).
type neighbour struct {
	ifindex int
	addr    netip.Addr
}

// ends are the two addresses of a connection.
type ends struct{ local, remote netip.Addr }

// Conn is a connection that the programs build frames for: the index and generation of its entry,
// and its two addresses.
type Conn struct {
	Index, Gen    uint32
	Local, Remote netip.Addr
}

func (c Conn) ends() ends { return ends{c.Local, c.Remote} }

// Options of Start.
type Options struct {
	Conns   func() []Conn      // all of now
	Entries *conntable.Entries // theirs
	Control *ebpf.Program      // link_control
	Log     *slog.Logger
	Often   *lograte.Logger
}

// neighbours has what the programs send bear the link addresses that the kernel
// would use: the programs have them from one packet of each connection. Only the
// kernel's own tables are followed, never what a frame says. Used by one goroutine.
type neighbours struct {
	Options
	ctx   context.Context
	h     *netlink.Handle
	macs  map[neighbour]macOf // of all neighbours that the kernel believes to know
	links map[int]macOf       // of the interfaces themselves
	via   map[ends]neighbour  // next hops of connections, until a route to there changes

	again time.Time // when the lists, which failed, are asked for again; zero: they did not

	// what has changed and is not followed yet
	moved    map[neighbour]bool
	relinked map[int]bool
	routed   []netip.Prefix
}

// usable are the states in which the kernel sends to the link address that it
// has (NUD_VALID of include/net/neighbour.h).
const usable = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY

// Start follows the kernel's neighbours until ctx ends, in goroutines of wg. An error means that they cannot be
// watched.
func Start(ctx context.Context, wg *sync.WaitGroup, opts Options) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_NEIGH, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("watch neighbours: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		s.Close()
		return fmt.Errorf("watch neighbours: %w", err)
	}
	n := &neighbours{Options: opts, ctx: ctx, h: h, macs: make(map[neighbour]macOf), links: make(map[int]macOf), via: make(map[ends]neighbour)}
	n.settle()
	if err := n.look(s); err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		s.Close()
		h.Close()
		return err
	}
	wg.Go(func() {
		<-ctx.Done()
		s.Close()
	})
	wg.Go(func() {
		defer h.Close()
		n.run(s)
	})
	return nil
}

// run follows what the kernel says on a socket, until that is closed.
func (n *neighbours) run(s *nl.NetlinkSocket) {
	for n.ctx.Err() == nil {
		msgs, _, err := s.Receive()
		for _, m := range msgs {
			n.notice(m)
		}
		late := errors.Is(err, unix.EAGAIN)                      // (Receive's time is over)
		if late || errors.Is(err, unix.ENOBUFS) || n.overdue() { // more was said than fits, or the lists failed: look at all
			if lerr := n.look(s); lerr != nil {
				n.Often.Warn("neighbours cannot be listed, tried again soon", lerr.Error(), "error", lerr)
			}
			if late || errors.Is(err, unix.ENOBUFS) {
				err = nil
			}
		}
		if n.ctx.Err() != nil {
			return
		}
		if err != nil {
			n.Log.Error("neighbours are no longer watched: a gateway that changes its link address is noticed by new connections only", "error", err)
			return
		}
		n.pause(n.follow())
	}
}

// restShare is how many times as long as the latest look at all connections took the
// next one is put off: with very many devices whose addresses keep changing it costs
// a tenth of a processor, no more. What the kernel says meanwhile waits, or is listed.
const restShare = 9

// pause waits before the next change is followed.
func (n *neighbours) pause(took time.Duration) {
	t := time.NewTimer(restShare * took)
	defer t.Stop()
	select {
	case <-n.ctx.Done():
	case <-t.C:
	}
}

// relistAfter is how long after a failure the lists are asked for again.
const relistAfter = time.Second

// look is list. After an error it is overdue some time later, and s.Receive waits no longer than that.
func (n *neighbours) look(s *nl.NetlinkSocket) error {
	n.again = time.Time{}
	wait := unix.Timeval{} // for ever
	err := n.list()
	if err != nil {
		n.again = time.Now().Add(relistAfter)
		wait = unix.NsecToTimeval(relistAfter.Nanoseconds())
	}
	return errors.Join(err, s.SetReceiveTimeout(&wait))
}

// overdue says whether the lists, which failed, are to be asked for again.
func (n *neighbours) overdue() bool { return !n.again.IsZero() && time.Now().After(n.again) }

// dumpTries is how often the kernel is asked for a list that changes while it tells it.
const dumpTries = 5

// uninterrupted is a list of the kernel's. One that changed while it was told may lack
// entries: it is asked for again.
func uninterrupted[T any](dump func() ([]T, error)) (list []T, err error) {
	for range dumpTries {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

// list looks at all neighbours and interfaces, and notes what differs from before.
// After an error what was known stays.
func (n *neighbours) list() error {
	links, err := uninterrupted(n.h.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var entries []netlink.Neigh
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		of, err := uninterrupted(func() ([]netlink.Neigh, error) { return n.h.NeighList(0, family) })
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		entries = append(entries, of...)
	}
	old, oldLinks := n.macs, n.links
	n.macs, n.links = make(map[neighbour]macOf), make(map[int]macOf)
	n.settle()
	for _, l := range links {
		n.setLink(l.Attrs(), oldLinks)
	}
	for i := range entries {
		n.set(&entries[i], old)
	}
	n.routed = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	return nil
}

// set enters what the kernel says of a neighbour; before is what was known of all.
func (n *neighbours) set(e *netlink.Neigh, before map[neighbour]macOf) {
	addr, ok := netip.AddrFromSlice(e.IP)
	if !ok || e.State&usable == 0 || len(e.HardwareAddr) != 6 {
		return // the latest that was believed stays in use, as in the kernel's own queue
	}
	k, mac := neighbour{e.LinkIndex, addr.Unmap()}, macOf(e.HardwareAddr)
	if old, known := before[k]; !known || old != mac {
		n.moved[k] = true
	}
	n.macs[k] = mac
}

func (n *neighbours) setLink(a *netlink.LinkAttrs, before map[int]macOf) {
	if len(a.HardwareAddr) != 6 {
		return
	}
	mac := macOf(a.HardwareAddr)
	if before[a.Index] != mac {
		n.relinked[a.Index] = true
	}
	n.links[a.Index] = mac
}

// notice reads one notification of the kernel.
func (n *neighbours) notice(m syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		e, err := netlink.NeighDeserialize(m.Data)
		if err != nil || e.Family == unix.AF_BRIDGE {
			return
		}
		if m.Header.Type == unix.RTM_NEWNEIGH {
			n.set(e, n.macs)
		} else if addr, ok := netip.AddrFromSlice(e.IP); ok {
			delete(n.macs, neighbour{e.LinkIndex, addr.Unmap()})
		}
	case unix.RTM_NEWLINK:
		if l, err := linkOf(m); err == nil {
			n.setLink(l.Attrs(), n.links)
		}
	case unix.RTM_DELLINK:
		if l, err := linkOf(m); err == nil {
			delete(n.links, l.Attrs().Index)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if to, ok := destination(m.Data); ok {
			n.routed = append(n.routed, to)
		}
	}
}

func linkOf(m syscall.NetlinkMessage) (netlink.Link, error) {
	h := unix.NlMsghdr(m.Header)
	return netlink.LinkDeserialize(&h, m.Data)
}

// destination is what a route leads to.
func destination(data []byte) (netip.Prefix, bool) {
	if len(data) < unix.SizeofRtMsg {
		return netip.Prefix{}, false
	}
	m := nl.DeserializeRtMsg(data)
	to := netip.IPv4Unspecified()
	if m.Family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	attrs, err := nl.ParseRouteAttr(data[m.Len():])
	if err != nil {
		return netip.Prefix{}, false
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_DST {
			if addr, ok := netip.AddrFromSlice(a.Value); ok {
				to = addr
			}
		}
	}
	p, err := to.Prefix(int(m.Dst_len))
	return p, err == nil
}

// settle forgets what has changed.
func (n *neighbours) settle() {
	n.moved, n.relinked, n.routed = make(map[neighbour]bool), make(map[int]bool), nil
}

// follow gives those connections new link addresses whose next hop, interface or
// route has changed. It returns how long it has taken.
func (n *neighbours) follow() time.Duration {
	if len(n.moved)+len(n.relinked)+len(n.routed) == 0 {
		return 0
	}
	began := time.Now()
	via := make(map[ends]neighbour) // of connections that live: its size is bounded by theirs
	for _, c := range n.Conns() {
		again := n.rerouted(c.Remote)
		hop, known := via[c.ends()]
		if !known && !again {
			hop, known = n.via[c.ends()]
		}
		if !known {
			if hop, known = n.nextHop(c.ends()); !known {
				continue
			}
		}
		via[c.ends()] = hop
		if again || n.moved[hop] || n.relinked[hop.ifindex] {
			n.update(c, hop)
		}
	}
	n.via = via
	n.settle()
	return time.Since(began)
}

// rerouted says whether a route that may lead to an address has changed.
func (n *neighbours) rerouted(to netip.Addr) bool {
	for _, p := range n.routed {
		if p.Contains(to) {
			return true
		}
	}
	return false
}

// nextHop asks the kernel which neighbour gets a connection's packets.
func (n *neighbours) nextHop(e ends) (neighbour, bool) {
	routes, err := n.h.RouteGetWithOptions(net.IP(e.remote.AsSlice()), &netlink.RouteGetOptions{SrcAddr: net.IP(e.local.AsSlice())})
	if err != nil || len(routes) == 0 {
		return neighbour{}, false
	}
	hop := neighbour{routes[0].LinkIndex, e.remote}
	gw := routes[0].Gw
	if v, ok := routes[0].Via.(*netlink.Via); ok { // IPv4 by way of an IPv6 neighbour
		gw = v.Addr
	}
	if addr, ok := netip.AddrFromSlice(gw); ok {
		hop.addr = addr.Unmap()
	}
	return hop, true
}

// update gives a connection the link addresses of its next hop and of the
// interface that leads there, if that is the one that its packets leave through, or
// a VLAN of it.
func (n *neighbours) update(c Conn, hop neighbour) {
	dst, known := n.macs[hop]
	if !known {
		n.resolve(hop)
		return // what comes of it will be noticed
	}
	src, ok := n.links[hop.ifindex]
	state, err := n.Entries.Read(c.Index)
	if !ok || err != nil || state.Gen != c.Gen || state.DstMac == dst && state.SrcMac == src {
		return
	}
	if int(state.Ifindex) != hop.ifindex {
		l, err := n.h.LinkByIndex(hop.ifindex)
		if err != nil || l.Attrs().ParentIndex != int(state.Ifindex) {
			return
		}
	}
	args := bpf.EproxyLinkArgs{Conn: c.Index, Gen: c.Gen, DstMac: dst, SrcMac: src}
	if _, err := n.Control.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		n.Often.Warn("following a neighbour's link address", err.Error(), "error", err)
	}
}

// resolve has the kernel find out a neighbour's link address, as it does by itself
// when it has something to send there: of a connection whose messages are all taken
// it has nothing. What fails now is tried again when the kernel itself wants to know.
func (n *neighbours) resolve(hop neighbour) {
	err := n.h.NeighSet(&netlink.Neigh{LinkIndex: hop.ifindex, IP: hop.addr.AsSlice(), State: netlink.NUD_NONE, Flags: netlink.NTF_USE})
	if err != nil {
		n.Often.Warn("asking for a neighbour's link address", err.Error(), "neighbour", hop.addr, "error", err)
	}
}
