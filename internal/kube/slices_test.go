package kube

import (
	"fmt"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"eproxy/internal/config"
)

// of makes an EndpointSlice.
func of(family string, p []discovery.EndpointPort, e ...discovery.Endpoint) *discovery.EndpointSlice {
	return &discovery.EndpointSlice{AddressType: discovery.AddressType(family), Ports: p, Endpoints: e}
}

// ports makes ports of names and numbers in turn.
func ports(list ...any) (out []discovery.EndpointPort) {
	for i := 0; i < len(list); i += 2 {
		name, number := list[i].(string), int32(list[i+1].(int))
		out = append(out, discovery.EndpointPort{Name: &name, Port: &number})
	}
	return out
}

func ready(address string) discovery.Endpoint {
	return discovery.Endpoint{Addresses: []string{address}}
}

func unready(address string) discovery.Endpoint {
	return discovery.Endpoint{Addresses: []string{address}, Conditions: discovery.EndpointConditions{Ready: new(bool)}}
}

// pod says whose address an endpoint is.
func pod(uid string, e discovery.Endpoint) discovery.Endpoint {
	e.TargetRef = &core.ObjectReference{Kind: "Pod", UID: types.UID(uid)}
	return e
}

// TestMerge: which pods a Service has by its EndpointSlices, and why it has none.
func TestMerge(t *testing.T) {
	yes := true
	udp := core.ProtocolUDP
	terminating := ready("10.0.0.3")
	terminating.Conditions = discovery.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &yes} // publishNotReadyAddresses
	certain := ready("10.0.0.4")
	certain.Conditions = discovery.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: new(bool)}
	dns := ports("dns", 53, "http", 8080)
	dns[0].Protocol = &udp
	anyPort := ports("", 1)
	anyPort[0].Port = nil
	for _, c := range []struct {
		name   string
		port   string
		slices []*discovery.EndpointSlice
		want   string
		why    string
	}{
		{name: "none", want: "[]", why: "does the Service exist?"},
		{name: "no pods at the moment", slices: []*discovery.EndpointSlice{of("IPv4", nil)}, want: "[]"},
		{name: "none ready", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 80), unready("10.0.0.1"))}, want: "[]"},
		{name: "conditions", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 80), ready("10.0.0.1"), unready("10.0.0.2"), terminating, certain)}, want: "[10.0.0.1:80 10.0.0.4:80]"},
		{name: "both families", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 80), ready("10.0.0.1")), of("IPv6", ports("", 80), ready("fd00::1"))}, want: "[10.0.0.1:80 [fd00::1]:80]"},
		{name: "a pod of both families is one", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 80), pod("a", ready("10.0.0.1")), pod("b", unready("10.0.0.2"))),
			of("IPv6", ports("", 80), pod("a", ready("fd00::1")), pod("b", ready("fd00::2")))}, want: "[10.0.0.1:80 [fd00::2]:80]"},
		{name: "moved to another slice", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 80), pod("a", ready("10.0.0.1"))), of("IPv4", ports("", 80), pod("a", ready("10.0.0.1")))}, want: "[10.0.0.1:80]"},
		{name: "one port", slices: []*discovery.EndpointSlice{of("IPv4", ports("metrics", 80), ready("10.0.0.1"))}, want: "[10.0.0.1:80]"},
		{name: "one port of TCP", slices: []*discovery.EndpointSlice{of("IPv4", dns, ready("10.0.0.1"))}, want: "[10.0.0.1:8080]"},
		{name: "http of several", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1, "http", 2), ready("10.0.0.1"))}, want: "[10.0.0.1:2]"},
		{name: "none of several", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1, "b", 2), ready("10.0.0.1"))}, want: "[]", why: `none of several is named http; its pods have: "a" (1), "b" (2)`},
		{name: "by name", port: "b", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1, "b", 2), ready("10.0.0.1")), of("IPv4", ports("a", 1, "b", 3), ready("10.0.0.2"))}, want: "[10.0.0.1:2 10.0.0.2:3]"},
		{name: "by number", port: "2", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1, "b", 2), ready("10.0.0.1"))}, want: "[10.0.0.1:2]"},
		{name: "any number", port: "2", slices: []*discovery.EndpointSlice{of("IPv4", anyPort, ready("10.0.0.1"))}, want: "[10.0.0.1:2]"},
		{name: "any number, none named", slices: []*discovery.EndpointSlice{of("IPv4", anyPort, ready("10.0.0.1"))}, want: "[]", why: "it has not one TCP port"},
		{name: "no such name", port: "c", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1), ready("10.0.0.1"))}, want: "[]", why: `it has no TCP port "c"; its pods have: "a" (1)`},
		{name: "no such number", port: "80", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1), ready("10.0.0.1"))}, want: "[]", why: `it has no TCP port "80"; its pods have: "a" (1)`},
		{name: "of UDP", port: "dns", slices: []*discovery.EndpointSlice{of("IPv4", dns, ready("10.0.0.1"))}, want: "[]", why: `it has no TCP port "dns"`},
		{name: "no ports", slices: []*discovery.EndpointSlice{of("IPv4", nil, ready("10.0.0.1"))}, want: "[]", why: "its pods have: none"},
		{name: "no ports, none ready", slices: []*discovery.EndpointSlice{of("IPv4", nil, unready("10.0.0.1"))}, want: "[]", why: "its pods have: none"},
		{name: "some have the port", port: "a", slices: []*discovery.EndpointSlice{of("IPv4", ports("a", 1), ready("10.0.0.1")), of("IPv4", ports("b", 1), ready("10.0.0.2"))}, want: "[10.0.0.1:1]"},
		{name: "hosts", slices: []*discovery.EndpointSlice{of("FQDN", ports("", 80), ready("a.test"))}, want: "[]", why: "addressType FQDN"},
		{name: "nonsense", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 80), ready("a.test"), discovery.Endpoint{}, ready("::ffff:10.0.0.1"))}, want: "[10.0.0.1:80]"},
		{name: "a port out of range", slices: []*discovery.EndpointSlice{of("IPv4", ports("", 65536), ready("10.0.0.1"))}, want: "[]", why: "its pods have: none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := make(map[string]slice)
			for i, s := range c.slices {
				all[fmt.Sprint(i)] = trim(s, "")
			}
			got, why := merge(all, c.port)
			if fmt.Sprint(got) != c.want || !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Errorf("%v, %q; want %s, %q", got, why, c.want, c.why)
			}
		})
	}
}

// TestPlaceOf: a pod is here or elsewhere if both its node and this one have names, and nowhere else.
func TestPlaceOf(t *testing.T) {
	name := func(s string) *string { return &s }
	for _, c := range []struct {
		of   *string
		node string
		want config.Place
	}{
		{nil, "", config.Nowhere}, {nil, "a", config.Nowhere}, {name(""), "a", config.Nowhere}, {name("a"), "", config.Nowhere},
		{name("a"), "a", config.ThisNode}, {name("b"), "a", config.OtherNode},
	} {
		e := ready("10.0.0.1")
		e.NodeName = c.of
		pods, _ := merge(map[string]slice{"s": trim(of("IPv4", ports("", 80), e), c.node)}, "")
		if len(pods) != 1 || pods[0].Place != c.want {
			t.Errorf("a pod of node %v, seen from %q: %+v, want place %d", c.of, c.node, pods, c.want)
		}
	}
}

// TestMergeIdentities: each address comes with the pod that has it; of two slices that name one
// address, one of which does not know whose it is, the other says.
func TestMergeIdentities(t *testing.T) {
	all := map[string]slice{
		"a": trim(of("IPv4", ports("", 80), ready("10.0.0.1"), pod("u2", ready("10.0.0.2"))), ""),
		"b": trim(of("IPv4", ports("", 80), pod("u1", ready("10.0.0.1")), ready("10.0.0.3")), ""),
	}
	var got []string
	pods, _ := merge(all, "")
	for _, p := range pods {
		got = append(got, p.String()+"="+p.Identity)
	}
	if want := "[10.0.0.1:80=u1 10.0.0.2:80=u2 10.0.0.3:80=]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
