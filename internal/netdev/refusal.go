package netdev

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// UsualMTU is the MTU of Ethernet, in bytes, which every driver's XDP allows.
const UsualMTU = 1500

// Ethernet says whether an interface's frames are Ethernet's, from one host to
// another: those of the loopback interface are not.
func Ethernet(l netlink.Link) bool {
	return l.Attrs().EncapType == "ether" && len(l.Attrs().HardwareAddr) == 6
}

// XDPRefusal makes one line of an error of attaching an XDP program to an
// interface in a mode (native or generic): what is in the way, and the way out.
func XDPRefusal(l netlink.Link, mode string, err error) error {
	a := l.Attrs()
	why := ""
	switch {
	case errors.Is(err, unix.EBUSY):
		why = fmt.Sprintf("another XDP program (id %d) is attached: detach it, or set xdp: off", attachedXDP(a))
	case errors.Is(err, unix.EEXIST):
		why = fmt.Sprintf("another XDP program (id %d) is attached, in the other mode or to an interface on top: detach it, or set xdp: off", attachedXDP(a))
	case errors.Is(err, unix.ERANGE), errors.Is(err, unix.EINVAL) && mode == "native" && a.MTU > UsualMTU:
		why = mtuRefusal(l)
	case errors.Is(err, unix.EOPNOTSUPP):
		why = unsupported(l, mode)
	case errors.Is(err, unix.ENOSPC):
		why = "it has fewer receive queues than its far end has transmit queues: give it as many (ethtool -L), or set xdp: auto or off"
	case errors.Is(err, unix.ENOTCONN):
		why = "it has no far end"
	default:
		why = refusal(err)
	}
	return fmt.Errorf("attach XDP (%s) to %s: %s", mode, a.Name, why)
}

// TCXRefusal makes one line of an error of attaching a TC program by link to an
// interface.
func TCXRefusal(ifname, program string, err error) error {
	why := ""
	switch {
	case errors.Is(err, unix.EEXIST):
		why = "it is attached already"
	case errors.Is(err, unix.ERANGE):
		why = "too many programs are attached there"
	case errors.Is(err, ebpf.ErrNotSupported):
		why = "programs at TC attached by link are of Linux 6.6"
	default:
		why = refusal(err)
	}
	return fmt.Errorf("attach %s to %s: %s", program, ifname, why)
}

// refusal explains what XDP and TCX have in common.
func refusal(err error) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return "the interface is gone"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "not permitted: CAP_NET_ADMIN and CAP_BPF are needed, and no security policy in the way"
	}
	return err.Error()
}

func attachedXDP(a *netlink.LinkAttrs) uint32 {
	if a.Xdp == nil {
		return 0
	}
	return a.Xdp.ProgId
}

// mtuRefusal names the MTU as what is in the way, and the largest that works if
// that can be found out.
func mtuRefusal(l netlink.Link) string {
	a := l.Attrs()
	out := "lower the MTU, or set xdp: auto or off, which takes messages at TC"
	if l.Type() != "veth" {
		return fmt.Sprintf("its MTU of %d is too large for its driver's XDP: %s", a.MTU, out)
	}
	largest, err := LargestVethMTU()
	switch {
	case err != nil:
		return fmt.Sprintf("its MTU of %d is too large for XDP on veth: %s", a.MTU, out)
	case a.MTU <= largest: // the kernel looks at the far end's
		return fmt.Sprintf("the MTU of its far end is too large for XDP on veth, which works up to %d: %s", largest, out)
	}
	return fmt.Sprintf("its MTU of %d is too large for XDP on veth, which works up to %d: %s", a.MTU, largest, out)
}

func unsupported(l netlink.Link, mode string) string {
	if ok, err := XDPNative(l.Attrs().Index); mode == "native" && err == nil && ok {
		return fmt.Sprintf("its driver refuses native XDP with its present settings (MTU %d, offloads such as LRO, number of queues): change them, or set xdp: auto or off", l.Attrs().MTU)
	}
	return fmt.Sprintf("its driver has no %s XDP: set xdp: auto or off", mode)
}
