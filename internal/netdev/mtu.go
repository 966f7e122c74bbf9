package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attrMaxMTU is IFLA_MAX_MTU (include/uapi/linux/if_link.h).
const attrMaxMTU = 51

// LargestVethMTU is the largest MTU, in bytes, with which veth interfaces of
// this kernel run XDP programs such as eproxy's. It is found out on a pair made
// for it, in a network namespace of its own: veth lowers the far end's limit as
// it takes a program.
func LargestVethMTU() (int, error) {
	type answer struct {
		mtu int
		err error
	}
	done := make(chan answer, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread and its namespace end with the goroutine
		mtu, err := probeVeth()
		done <- answer{mtu, err}
	}()
	a := <-done
	return a.mtu, a.err
}

func probeVeth() (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("make network namespace: %w", err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "b"}
	pair.Name = "a"
	if err := netlink.LinkAdd(pair); err != nil {
		return 0, fmt.Errorf("make veth pair: %w", err)
	}
	a, err := netlink.LinkByName("a")
	if err != nil {
		return 0, err
	}
	b, err := netlink.LinkByName("b")
	if err != nil {
		return 0, err
	}
	l, err := tryXDP(a.Attrs().Index)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return maxMTU(b.Attrs().Index)
}

// TryXDP attaches a program that passes everything, in native mode, for a
// moment. Physical cards may lose their link for seconds over it.
func TryXDP(ifindex int) error {
	l, err := tryXDP(ifindex)
	if err != nil {
		return err
	}
	return l.Close()
}

func tryXDP(ifindex int) (link.Link, error) {
	const xdpPass = 2
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	return link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifindex, Flags: link.XDPDriverMode})
}

// TryTCX attaches a TC program that does nothing for a moment.
func TryTCX(ifindex int) error {
	const tcActUnspec = -1
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tcActUnspec), asm.Return()}})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	return l.Close()
}

// maxMTU asks for the limit that the driver sets now.
func maxMTU(ifindex int) (int, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(ifindex)
	req.AddData(msg)
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return 0, fmt.Errorf("ask for the largest MTU: %w", err)
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfInfomsg:])
		if err != nil {
			return 0, fmt.Errorf("parse the largest MTU: %w", err)
		}
		for _, at := range attrs {
			if at.Attr.Type == attrMaxMTU && len(at.Value) >= 4 {
				return int(binary.NativeEndian.Uint32(at.Value)), nil
			}
		}
	}
	return 0, errors.New("kernel names no largest MTU")
}
