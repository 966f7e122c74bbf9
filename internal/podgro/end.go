package podgro

import (
	"errors"
	"fmt"
	"os"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/podns"
)

// feature is what ethtool calls GRO.
const feature = "rx-gro"

// errGone means that there is no such pair of interfaces any more.
var errGone = errors.New("the interface is gone")

// end is the far end of a veth pair, in another network namespace.
type end struct {
	index  int
	name   string
	cookie uint64 // of its namespace: no other one ever has it
	tool   *ethtool.Ethtool
}

// far opens the far end of the veth pair whose near end has a number in this network
// namespace. It is errGone if there is no such pair.
func far(ifindex int) (*end, error) {
	near, err := netlink.LinkByIndex(ifindex)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", ifindex, err)
	}
	a := near.Attrs()
	if near.Type() != "veth" || a.NetNsID < 0 {
		return nil, errGone
	}
	ns, err := podns.Open(a.NetNsID)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	e := &end{index: a.ParentIndex}
	if err := podns.Inside(ns, func() error { return e.open(ifindex) }); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// open opens what is needed of the namespace that the thread is in, and makes sure
// that the interface is what it is taken for.
func (e *end) open(near int) error {
	var err error
	if e.cookie, err = cookie(); err != nil {
		return fmt.Errorf("identify its network namespace: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("look at its network namespace: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByIndex(e.index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("look at its end: %w", err)
	}
	if l.Type() != "veth" || l.Attrs().ParentIndex != near {
		return errGone
	}
	e.name = l.Attrs().Name
	if e.tool, err = ethtool.NewEthtool(); err != nil {
		return fmt.Errorf("open ethtool at its end: %w", err)
	}
	return nil
}

// cookie identifies the network namespace that the thread is in.
func cookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return c, os.NewSyscallError("getsockopt", err)
}

func (e *end) close() {
	if e.tool != nil {
		e.tool.Close()
	}
}

// gro says whether GRO is on.
func (e *end) gro() (bool, error) {
	fs, err := e.tool.Features(e.name)
	if err != nil {
		return false, fmt.Errorf("read the offloads of %s there: %w", e.name, err)
	}
	return fs[feature], nil
}

// setGRO switches GRO. The interface is known by its name from here on: whoever can
// rename it meanwhile, so that another one has the name, can switch that one's as well.
func (e *end) setGRO(on bool) error {
	if err := e.tool.Change(e.name, map[string]bool{feature: on}); err != nil {
		return fmt.Errorf("switch GRO of %s there: %w", e.name, err)
	}
	switch now, err := e.gro(); {
	case err != nil:
		return err
	case now != on:
		return fmt.Errorf("GRO of %s there stays as it is", e.name)
	}
	return nil
}
