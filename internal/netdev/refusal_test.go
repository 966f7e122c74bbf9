package netdev

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// card is an interface that does not exist, with a physical card's MTU.
func card(mtu int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: mtu, Index: 1 << 30, Xdp: &netlink.LinkXdp{ProgId: 7}}}
}

// TestAttachErrorsNameTheWayOut: every error of attaching is one line that names the interface,
// what is in the way, and the way out.
func TestAttachErrorsNameTheWayOut(t *testing.T) {
	for _, c := range []struct {
		err  unix.Errno
		mode string
		mtu  int
		want string
	}{
		{unix.EBUSY, "native", 1500, "another XDP program (id 7) is attached: detach it, or set xdp: off"},
		{unix.EEXIST, "generic", 1500, "another XDP program (id 7) is attached, in the other mode"},
		{unix.ERANGE, "native", 9000, "its MTU of 9000 is too large for its driver's XDP: lower the MTU, or set xdp: auto or off"},
		{unix.EINVAL, "native", 9000, "its MTU of 9000 is too large for its driver's XDP"},
		{unix.EINVAL, "native", 1500, "invalid argument"},
		{unix.EOPNOTSUPP, "native", 1500, "its driver has no native XDP: set xdp: auto or off"},
		{unix.EOPNOTSUPP, "generic", 1500, "its driver has no generic XDP"},
		{unix.ENOSPC, "native", 1500, "fewer receive queues than its far end has transmit queues"},
		{unix.ENOTCONN, "native", 1500, "it has no far end"},
		{unix.ENODEV, "native", 1500, "the interface is gone"},
		{unix.EPERM, "native", 1500, "not permitted: CAP_NET_ADMIN and CAP_BPF are needed"},
	} {
		got := XDPRefusal(card(c.mtu), c.mode, fmt.Errorf("attach link: %w", c.err)).Error()
		if want := "attach XDP (" + c.mode + ") to eth0: "; !strings.HasPrefix(got, want) || !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%v with MTU %d: %q, want %q and %q", c.err, c.mtu, got, want, c.want)
		}
	}
	for err, want := range map[error]string{
		unix.EEXIST:          "it is attached already",
		unix.ERANGE:          "too many programs are attached there",
		ebpf.ErrNotSupported: "programs at TC attached by link are of Linux 6.6",
		unix.ENODEV:          "the interface is gone",
		unix.EACCES:          "not permitted",
	} {
		got := TCXRefusal("eth0", "tc_device_in", fmt.Errorf("attach: %w", err)).Error()
		if !strings.HasPrefix(got, "attach tc_device_in to eth0: "+want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
