package bpf

import (
	"fmt"
	"strings"
	"testing"

	"eproxy/internal/topic"
)

// BenchmarkMessageUncached takes messages whose topic is never the one before:
// each is matched anew. The time grows with the levels of the topic, not with
// the number of routes; but all of 10,000 topics do not stay in the processor's caches.
func BenchmarkMessageUncached(b *testing.B) {
	for _, levels := range []int{4, 8} {
		for _, c := range []struct{ routes, topics int }{{10, 10}, {10000, 10}, {10000, 10000}} {
			routes := c.routes
			b.Run(fmt.Sprintf("levels=%d/routes=%d/topics=%d", levels, routes, c.topics), func(b *testing.B) {
				r := newRig(b, false)
				middle := strings.Repeat("/x", levels-3)
				filters := make([]string, routes)
				for i := range filters {
					filters[i] = fmt.Sprintf("site/%03d%s/m%03d", i/100, middle, i%100)
				}
				r.install(filters)
				step := routes/c.topics*7 + 1 // not side by side
				benchmark(b, r, r.objs.XdpDevice, func(i int) string { return filters[i%c.topics*step%routes] })
			})
		}
	}
}

// benchNodes is where automata begin that replace the rig's.
const benchNodes = 64

// install replaces the rig's route by these; all lead to its function.
func (r *rig) install(filters []string) {
	r.t.Helper()
	a, err := topic.Compile(filters, int(r.objs.Nodes.MaxEntries())-benchNodes)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range filters {
		r.put(r.objs.Routes, uint32(i), &EproxyRoute{})
	}
	for i, n := range a.Nodes {
		if n.Plus != topic.None {
			n.Plus += benchNodes
		}
		r.put(r.objs.Nodes, uint32(benchNodes+i), &EproxyNode{Plus: n.Plus, Exact: n.Exact, Hash: n.Hash})
	}
	for _, e := range a.Edges {
		r.edge(benchNodes+e.Node, e.Level, benchNodes+e.Child)
		r.t.Cleanup(func() { _ = r.objs.Edges.Delete(edgeKey(benchNodes+e.Node, e.Level)) })
	}
	r.put(r.objs.Settings, uint32(0), &EproxyGlobals{Root: benchNodes + topic.RootNormal, RootDollar: benchNodes + topic.RootDollar, Epoch: 2})
}
