package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/config"
	"eproxy/internal/endpoints"
)

// slice is what is kept of an EndpointSlice.
type slice struct {
	hosts bool   // it names hosts, not addresses
	ports []port // of TCP
	ready []endpoint
	any   bool // it has endpoints, be they ready or not
}

// port is a port of the pods.
type port struct {
	name   string
	number uint16 // 0: whichever is asked for
}

func (p port) String() string { return fmt.Sprintf("%q (%d)", p.name, p.number) }

// endpoint is an address of a pod.
type endpoint struct {
	addr netip.Addr
	pod  types.UID // "": not known
	at   config.Place
}

// trim keeps of an EndpointSlice what is needed. A pod counts if it is ready and is not
// being terminated: one that terminates may still serve, but what it has not answered
// when it ends would be delivered again. node is the name of this node; "": it is not known.
func trim(s *discovery.EndpointSlice, node string) slice {
	out := slice{hosts: s.AddressType == discovery.AddressTypeFQDN, any: len(s.Endpoints) > 0}
	for _, p := range s.Ports {
		if p.Protocol != nil && *p.Protocol != core.ProtocolTCP {
			continue
		}
		var kept port
		if p.Name != nil {
			kept.name = strings.Clone(*p.Name)
		}
		if p.Port != nil {
			if *p.Port < 1 || *p.Port > 65535 {
				continue
			}
			kept.number = uint16(*p.Port)
		}
		out.ports = append(out.ports, kept)
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if out.hosts || !usable(&e.Conditions) || len(e.Addresses) == 0 {
			continue
		}
		a, err := netip.ParseAddr(e.Addresses[0]) // all mean the same pod
		if err != nil {
			continue
		}
		kept := endpoint{addr: a.Unmap(), at: placeOf(e.NodeName, node)}
		if e.TargetRef != nil {
			kept.pod = types.UID(strings.Clone(string(e.TargetRef.UID)))
		}
		out.ready = append(out.ready, kept)
	}
	return out
}

// placeOf is where a pod of a node is.
func placeOf(of *string, node string) config.Place {
	switch {
	case of == nil || *of == "" || node == "":
		return config.Nowhere
	case *of == node:
		return config.ThisNode
	}
	return config.OtherNode
}

// usable says whether conditions allow new messages; one that is not known stands for
// the usual, as the API says.
func usable(c *discovery.EndpointConditions) bool {
	return (c.Ready == nil || *c.Ready) && (c.Terminating == nil || !*c.Terminating)
}

// defaultPort is the name of the port that is meant where there are several and none is named.
const defaultPort = "http"

// choose is the number of the port that is wanted, 0 if there is none.
func (s *slice) choose(wanted string) uint16 {
	number, err := strconv.ParseUint(wanted, 10, 16)
	for _, p := range s.ports {
		switch {
		case err == nil && (p.number == uint16(number) || p.number == 0):
			return uint16(number)
		case err == nil || p.number == 0:
		case wanted == "" && (len(s.ports) == 1 || p.name == defaultPort), wanted != "" && p.name == wanted:
			return p.number
		}
	}
	return 0
}

// merge is the pods of a Service by all its EndpointSlices; why says what is wrong with
// these if there can be none.
func merge(all map[string]slice, wanted string) (pods []endpoints.Pod, why string) {
	if len(all) == 0 {
		return nil, "it has no EndpointSlices: does the Service exist?"
	}
	family := make(map[types.UID]bool) // of a pod that has addresses of both: IPv4
	for _, s := range all {
		for _, e := range s.ready {
			family[e.pod] = family[e.pod] || e.addr.Is4()
		}
	}
	var hosts, without bool
	found := false
	for _, s := range all {
		number := s.choose(wanted)
		hosts = hosts || s.hosts
		if number == 0 || s.hosts {
			without = without || s.any
			continue
		}
		found = true
		for _, e := range s.ready {
			if e.pod == "" || e.addr.Is4() == family[e.pod] {
				pods = append(pods, endpoints.Pod{Address: netip.AddrPortFrom(e.addr, number), Identity: string(e.pod), Place: e.at})
			}
		}
	}
	slices.SortFunc(pods, func(a, b endpoints.Pod) int { // what is known before what is not
		return cmp.Or(a.Address.Compare(b.Address), -cmp.Compare(a.Identity, b.Identity))
	})
	pods = slices.CompactFunc(pods, func(a, b endpoints.Pod) bool { return a.Address == b.Address })
	switch {
	case found || !without: // there are pods, or the Service has none at the moment
		return pods, ""
	case hosts:
		return nil, "its EndpointSlices name hosts (addressType FQDN), not addresses"
	}
	return nil, missing(all, wanted)
}

// missing says which ports there are instead.
func missing(all map[string]slice, wanted string) string {
	there := make(map[port]bool)
	for _, s := range all {
		for _, p := range s.ports {
			there[p] = true
		}
	}
	names := "none"
	if len(there) > 0 {
		var list []string
		for p := range maps.Keys(there) {
			list = append(list, p.String())
		}
		slices.Sort(list)
		names = strings.Join(list[:min(len(list), 8)], ", ")
	}
	if wanted == "" {
		return "it has not one TCP port, and none of several is named http; its pods have: " + names
	}
	return fmt.Sprintf("it has no TCP port %q; its pods have: %s", wanted, names)
}
