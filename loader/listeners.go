package main

import (
	"net/netip"
	"slices"

	"eproxy/internal/config"
)

// enterListeners tells the programs of a configuration's listeners, beside those that they know.
func (n *node) enterListeners(cfg *config.Config) error {
	addrs, err := listenerAddrs(cfg)
	if err != nil {
		return err
	}
	return n.plane.SetListeners(addrs)
}

// leaveListeners has the programs forget those of one configuration that the other one does not have.
func (n *node) leaveListeners(of, but *config.Config) {
	before, err := listenerAddrs(of)
	if err != nil {
		return // they were never entered
	}
	stay, _ := listenerAddrs(but)
	gone := slices.DeleteFunc(before, func(a netip.AddrPort) bool { return slices.Contains(stay, a) })
	if err := n.plane.DropListeners(gone); err != nil {
		n.log.Error("listeners not removed", "error", err)
	}
}
