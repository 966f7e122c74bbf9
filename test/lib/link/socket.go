package link

import (
	"errors"
	"fmt"
	"net"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// socket reads and writes the frames of an interface.
type socket struct {
	fd   int
	napi link.Link
	oob  [64]byte
}

// receiveBuffer is what waits in the kernel until it is read, bytes.
const receiveBuffer = 32 << 20

// openSocket opens an interface of the calling thread's namespace. What its peer
// sends arrives as it was sent: GRO is off. An XDP program that passes everything
// makes it poll all the same, without which a veth takes no XDP redirects.
func openSocket(ifname string) (*socket, error) {
	s := new(socket)
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return(),
	}})
	if err != nil {
		return nil, fmt.Errorf("load a program: %w", err)
	}
	defer pass.Close()
	if s.napi, err = link.AttachXDP(link.XDPOptions{Program: pass, Interface: ifi.Index}); err != nil {
		return nil, fmt.Errorf("attach a program: %w", err)
	}
	if err := lab.SetGRO(ifname, false); err != nil {
		_ = s.napi.Close()
		return nil, err
	}
	if s.fd, err = wire.PacketSocket(ifi.Index, receiveBuffer); err != nil {
		_ = s.napi.Close()
		return nil, err
	}
	err = errors.Join(
		unix.SetNonblock(s.fd, true),
		unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) close() {
	unix.Close(s.fd)
	_ = s.napi.Close()
}

// dropped is how many frames found the socket's buffer full since it was last asked.
func (s *socket) dropped() int {
	st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int(st.Drops)
}

// read reads a frame into b and says how long it is and when it arrived at the
// interface; not ok: there is none. One longer than b is cut.
//
// Like write it does not wait, so that it need not give Go's processor back
// and then wait for that.
func (s *socket) read(b []byte) (n int, arrived time.Time, ok bool) {
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &s.oob[0]}
	msg.SetControllen(len(s.oob))
	length, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_TRUNC)
	if errno != 0 {
		return 0, arrived, false
	}
	now := time.Now()
	// The kernel's clock may be set at any time: only a small difference counts.
	if at, ok := timestamp(s.oob[:msg.Controllen]); ok {
		if age := now.UnixNano() - at; age > 0 && age < int64(time.Second) {
			now = now.Add(-time.Duration(age))
		}
	}
	return int(length), now, true
}

// timestamp is the time of arrival that the kernel gives with a frame, as UnixNano.
func timestamp(oob []byte) (ns int64, ok bool) {
	if len(oob) < unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))) {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_TIMESTAMPNS {
		return 0, false
	}
	return (*unix.Timespec)(unsafe.Pointer(&oob[unix.CmsgLen(0)])).Nano(), true
}

// write sends a frame; not ok: there was no room.
func (s *socket) write(frame []byte) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(&frame[0])), uintptr(len(frame)))
	return errno == 0
}
