package netns

import (
	"testing"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/link"
)

// Directions of the link that newLinked makes: from the far host, and to it.
const (
	uplink   = link.AtoB
	downlink = link.BtoA
)

// newLinked is a lab with an emulated link between the devices and the node.
func newLinked(t *testing.T) (*lab.Lab, *link.Link) {
	t.Helper()
	return newLinkedTo(t, lab.Dev)
}

// newLinkedTo is a lab with an emulated link between a host and the node.
func newLinkedTo(t *testing.T, far lab.Role) (*lab.Lab, *link.Link) {
	t.Helper()
	l, err := lab.NewWired(far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	var k *link.Link
	host, node := lab.WireEnds(far)
	err = l.Do(lab.Wire, func() error {
		k, err = link.Open(host, node)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return l, k
}

// both are the same for both directions.
func both(p link.Params) [2]link.Params { return [2]link.Params{p, p} }
