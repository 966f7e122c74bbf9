package netdev

import (
	"fmt"

	"github.com/safchain/ethtool"
)

// slowXDP are the drivers on which XDP was measured to cost more than TC, with why. (docs/BENCHMARKS.md, make bench-xdp)
var slowXDP = map[string]string{
	"veth": "a veth pair hands over packets that have their sk_buff already, and copies most of them for XDP",
}

// ChooseXDP is what is used of a choice of XDP (auto, on, native, generic or off) for a node interface: off in
// place of auto where the driver's XDP was measured to cost more than TC, which why says then. The name of
// the driver decides, as ethtool has it. An interface whose driver is not known keeps its choice.
func ChooseXDP(name, choice string) (used, why string) {
	if choice != "auto" {
		return choice, ""
	}
	driver, err := driverOf(name)
	if slow := slowXDP[driver]; err == nil && slow != "" {
		return "off", fmt.Sprintf("XDP costs more than TC with its driver %s: %s", driver, slow)
	}
	return choice, ""
}

// driverOf is the name of an interface's driver (ETHTOOL_GDRVINFO).
func driverOf(name string) (string, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return "", err
	}
	defer e.Close()
	return e.DriverName(name)
}
