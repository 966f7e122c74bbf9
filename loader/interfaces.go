package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"eproxy/internal/netdev"
)

// interfaceExists says whether this machine has an interface of that name.
func interfaceExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// interfaceUnfit says what run would have against an interface of this machine
// with a choice of XDP; empty: nothing that is known without trying.
func interfaceUnfit(name, xdp string) string {
	l, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return "does not exist on this machine"
	case err != nil:
		return "cannot be looked at: " + err.Error()
	case !netdev.Ethernet(l):
		return "is not Ethernet: the loader does not start with it"
	case xdp == "native" && l.Attrs().MTU > netdev.UsualMTU:
		return fmt.Sprintf("has an MTU of %d: native XDP has a limit that depends on the driver, beyond which the loader does not start; loader doctor finds out, xdp: auto takes messages at TC then", l.Attrs().MTU)
	}
	return ""
}
