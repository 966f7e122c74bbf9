package link

import (
	"net/netip"

	"eproxy/test/lib/wire"
)

// streams knows the TCP connections of a link: the initial sequence numbers of
// both sides, and what came by. It is empty at each new seed.
type streams struct {
	byPorts map[tuple]*stream
	count   int
}

// tuple names a connection from the side that its SYN came from.
type tuple struct{ client, server netip.AddrPort }

type stream struct {
	number  int
	initial [2]uint32 // sequence number of the SYN that came in each direction
	seen    [2]map[place]int
}

type place struct {
	kind   Kind
	offset uint32
}

func newStreams() *streams { return &streams{byPorts: make(map[tuple]*stream)} }

// key is a segment's key; each call counts as one that came by.
func (t *streams) key(d Direction, s wire.Segment) Key {
	src, dst := s.Addresses()
	setup := Key{Direction: d, Kind: Setup}
	flags := s.Flags()
	if flags&wire.FlagSYN != 0 {
		t.open(d, s, src, dst)
		return setup
	}
	c := t.byPorts[tuple{src, dst}]
	if c == nil {
		c = t.byPorts[tuple{dst, src}]
	}
	if c == nil || flags&wire.FlagRST != 0 {
		return setup
	}
	at := place{Ack, s.Ack() - c.initial[1-d]}
	if len(s.Payload()) > 0 || flags&wire.FlagFIN != 0 {
		at = place{Data, s.Seq() - c.initial[d]}
	}
	n := c.seen[d][at]
	c.seen[d][at] = n + 1
	return Key{d, c.number, at.kind, at.offset, n}
}

// open notes a SYN: a connection's first, again, or the one that answers it.
func (t *streams) open(d Direction, s wire.Segment, src, dst netip.AddrPort) {
	if s.Flags()&wire.FlagACK != 0 {
		if c := t.byPorts[tuple{dst, src}]; c != nil {
			c.initial[d] = s.Seq()
		}
		return
	}
	if c := t.byPorts[tuple{src, dst}]; c != nil && c.initial[d] == s.Seq() {
		return
	}
	c := &stream{number: t.count, seen: [2]map[place]int{make(map[place]int), make(map[place]int)}}
	c.initial[d] = s.Seq()
	t.byPorts[tuple{src, dst}] = c
	t.count++
}
