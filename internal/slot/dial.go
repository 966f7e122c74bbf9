package slot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/reach"
)

// DialTimeout is how long a connection to a pod may take to be made.
const DialTimeout = 3 * time.Second

// ErrUnseen means that no program saw the handshake of a slot's connection.
var ErrUnseen = errors.New("the connection does not leave through the pod's interface as it was dialled")

// dial arms the slot's entry between bind and connect, so that the handshake's
// last packet seeds it, puts the socket into the socket map, and has the programs use it.
func (s *Slot) dial(ctx context.Context) (conn *net.TCPConn, gen uint32, tuple bpf.EproxyTuple, err error) {
	if err := s.common.Memory.GrowSlot(s.at.Index, s.pod.Deep()); err != nil {
		return nil, 0, tuple, err
	}
	s.grown.Store(true)
	conn, gen, tuple, err = s.connect(ctx)
	if err == nil {
		if err = s.enter(conn, gen); err != nil {
			abort(conn)
		}
	}
	if err != nil {
		if gen != 0 {
			s.free(gen, tuple)
		}
		return nil, 0, tuple, err
	}
	return conn, gen, tuple, nil
}

// connect makes the connection. gen is of its entry, also where it fails: 0 if there is none.
func (s *Slot) connect(ctx context.Context) (conn *net.TCPConn, gen uint32, tuple bpf.EproxyTuple, err error) {
	mem := s.memory()
	d := net.Dialer{Timeout: DialTimeout, ControlContext: func(_ context.Context, _, _ string, rc syscall.RawConn) error {
		var inner error
		err := rc.Control(func(fd uintptr) {
			var local netip.AddrPort
			if local, inner = bindLocal(int(fd), s.at.Of.Address.Addr()); inner != nil {
				return
			}
			tuple = bpf.TupleOf(local, s.at.Of.Address)
			*mem = bpf.EproxySlot{State: uint32(bpf.EproxySlotStateSLOT_DIALLING), Pod: s.at.Of.Index,
				Count: mem.Count + 1, Dials: mem.Dials + 1, First: mem.Count + 1}
			copy(mem.IdPrefix[:], fmt.Sprintf("%07x%05x", s.common.IDSeed>>4, s.at.Index))
			gen, inner = s.common.Entries.Arm(s.at.Index, bpf.EproxyConnKindCONN_SLOT, tuple)
		})
		if err != nil {
			return err
		}
		return inner
	}}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", s.at.Of.Address.String())
	if err != nil {
		return nil, gen, tuple, err
	}
	return c.(*net.TCPConn), gen, tuple, nil
}

// enter has the programs use a connection that was made.
func (s *Slot) enter(conn *net.TCPConn, gen uint32) error {
	rc, err := conn.SyscallConn()
	if err == nil {
		var inner error
		err = rc.Control(func(fd uintptr) { inner = s.common.Objects.PodSocks.Put(s.at.Index, uint64(fd)) })
		if err == nil {
			err = inner
		}
	}
	if err != nil {
		return fmt.Errorf("enter socket map: %w", err)
	}
	s.mu.Lock()
	s.conn, s.gen, s.doomed, s.trouble, s.unneeded = conn, gen, false, nil, false
	s.ready, s.requests = clock.Monotonic(), s.memory().Count
	s.mu.Unlock()
	args, err := s.control(bpf.EproxySlotOpSLOT_OP_READY, bpf.EproxySlotArgs{Slot: s.at.Index, Gen: gen})
	s.position.Store(args.Position)
	if err == nil && args.Ok == 0 {
		err = ErrUnseen
	}
	if err != nil {
		s.mu.Lock()
		s.conn = nil
		s.mu.Unlock()
	}
	return err
}

// bindLocal binds a socket to the address that the route to remote prefers and
// a free port, and says which.
func bindLocal(fd int, remote netip.Addr) (netip.AddrPort, error) {
	src, _, err := reach.Source(remote)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var sa unix.Sockaddr
	if remote.Is4() {
		sa = &unix.SockaddrInet4{Addr: src.As4()}
	} else {
		sa = &unix.SockaddrInet6{Addr: src.As16()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return netip.AddrPort{}, fmt.Errorf("bind to %s: %w", src, err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read bound address: %w", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(src, uint16(b.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(src, uint16(b.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("bound to an address of unknown family")
}
