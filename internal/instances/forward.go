package instances

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
)

// unforwarded says why instances may reach no other machine; empty: nothing that can be seen here hinders them. Whether this machine
// passes packets on, and whose, is for its operator to decide: it then does for others, too.
func unforwarded() string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err == nil && len(b) > 0 && b[0] == '0' {
		return "instances reach no other machine: net.ipv4.ip_forward is 0 here, sysctl -w net.ipv4.ip_forward=1 switches it on"
	}
	if chain := dropping(); chain != "" {
		return fmt.Sprintf("instances reach other machines only as %s has rules that accept their packets, which it drops else: "+
			"nft list ruleset shows them; where it is Docker's, iptables -I DOCKER-USER -i %s+ -j ACCEPT and -o %s+ let them through", chain, linkPrefix, linkPrefix)
	}
	return ""
}

// dropping is a chain of nftables that drops what is passed on unless a rule accepts it, as Docker has one; empty: there is none.
func dropping() string {
	c, err := openRules()
	if err != nil {
		return ""
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, err := c.ListChainsOfTableFamily(family)
		if err != nil {
			continue
		}
		for _, x := range chains {
			if x.Hooknum != nil && *x.Hooknum == *nftables.ChainHookForward && x.Policy != nil && *x.Policy == nftables.ChainPolicyDrop && !strings.HasPrefix(x.Table.Name, "eproxy-") {
				return fmt.Sprintf("the chain %s of the table %s", x.Name, x.Table.Name)
			}
		}
	}
	return ""
}
