package link

import (
	"encoding/binary"
	"testing"

	"eproxy/test/lib/wire"
)

// segment is a TCP segment between a client 10.0.0.1:port and a server.
func segment(t *testing.T, d Direction, port uint16, seq, ack uint32, flags byte, payload int) wire.Segment {
	t.Helper()
	b := make([]byte, 14+20+20+payload)
	b[12], b[13] = 0x08, 0x00
	b[14], b[23] = 0x45, 6
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	copy(b[26:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(b[34:], port)
	binary.BigEndian.PutUint16(b[36:], 1883)
	if d == BtoA {
		copy(b[26:], []byte{10, 0, 0, 2, 10, 0, 0, 1})
		binary.BigEndian.PutUint16(b[34:], 1883)
		binary.BigEndian.PutUint16(b[36:], port)
	}
	b[46] = 0x50
	s, ok := wire.Parse(b)
	if !ok {
		t.Fatal("not parsed")
	}
	s.Set(seq, ack, flags, 1000)
	return s
}

// TestKeysAreStreamOffsets: a packet's key is where it is in its stream, with initial
// sequence numbers near the end of their space, and counts how often it was there.
func TestKeysAreStreamOffsets(t *testing.T) {
	const syn, ack, fin, rst, psh = wire.FlagSYN, wire.FlagACK, wire.FlagFIN, wire.FlagRST, wire.FlagPSH
	const client, server = 0xffffff00, 0xfffffff0
	s := newStreams()
	for i, c := range []struct {
		d        Direction
		port     uint16
		seq, ack uint32
		flags    byte
		payload  int
		want     Key
	}{
		{AtoB, 9, 5, 5, ack, 10, Key{AtoB, 0, Setup, 0, 0}}, // began before
		{AtoB, 9, client, 0, syn, 0, Key{AtoB, 0, Setup, 0, 0}},
		{AtoB, 9, client, 0, syn, 0, Key{AtoB, 0, Setup, 0, 0}}, // again
		{BtoA, 9, server, client + 1, syn | ack, 0, Key{BtoA, 0, Setup, 0, 0}},
		{AtoB, 9, client + 1, server + 1, ack, 0, Key{AtoB, 0, Ack, 1, 0}},
		{AtoB, 9, client + 1, server + 1, ack | psh, 400, Key{AtoB, 0, Data, 1, 0}},
		{AtoB, 9, (client + 401) & 0xffffffff, server + 1, ack | psh, 10, Key{AtoB, 0, Data, 401, 0}},
		{AtoB, 9, client + 1, server + 1, ack | psh, 100, Key{AtoB, 0, Data, 1, 1}}, // retransmitted, cut otherwise
		{BtoA, 9, server + 1, (client + 411) & 0xffffffff, ack, 0, Key{BtoA, 0, Ack, 411, 0}},
		{BtoA, 9, server + 1, (client + 411) & 0xffffffff, ack, 0, Key{BtoA, 0, Ack, 411, 1}},
		{BtoA, 9, server + 1, (client + 411) & 0xffffffff, ack, 4, Key{BtoA, 0, Data, 1, 0}},
		{AtoB, 7, 100, 0, syn, 0, Key{AtoB, 0, Setup, 0, 0}},
		{AtoB, 7, 101, 0, ack, 1, Key{AtoB, 1, Data, 1, 0}},
		{AtoB, 7, 102, 0, ack | fin, 0, Key{AtoB, 1, Data, 2, 0}},
		{AtoB, 7, 102, 0, ack | rst, 0, Key{AtoB, 0, Setup, 0, 0}},
		{AtoB, 9, 77, 0, syn, 0, Key{AtoB, 0, Setup, 0, 0}}, // the same ports once more
		{AtoB, 9, 78, 0, ack, 1, Key{AtoB, 2, Data, 1, 0}},
	} {
		if got := s.key(c.d, segment(t, c.d, c.port, c.seq, c.ack, c.flags, c.payload)); got != c.want {
			t.Errorf("packet %d: %+v, want %+v", i, got, c.want)
		}
	}
}
