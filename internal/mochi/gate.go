package mochi

import (
	"slices"
	"sync"

	"eproxy/internal/mqtt"
)

const (
	// connectSize is the largest CONNECT in bytes: 64 KiB for who the client is and
	// 64 KiB for the payload of its will.
	connectSize = 128 << 10
	// topicAliases is the largest topic alias that clients may use. It is not
	// announced in CONNACK: libraries that use aliases where they may would take
	// their messages from the kernel path, which reads no properties.
	topicAliases = 16
	// readSize is how much is read from the socket at once, in bytes.
	readSize = 16 << 10
	// keepSize is how large a buffer of a connection's own may be and still be kept though it is
	// mostly empty, in bytes.
	keepSize = 4096
	// holdSize is how large a PUBLISH may be, in bytes, to be kept until all of it has come, and not
	// be passed in parts.
	holdSize = 32 << 10
)

// readBuffers are for connections that have something to read; those that wait have none.
var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// gate lets through to the server what its Decoder has checked, but for the PUBLISHes that somebody
// takes instead. What it holds back is a packet that is not complete, so at most the largest that is
// allowed, and no more than the client has sent of it.
type gate struct {
	mqtt.Decoder
	held        []byte          // read from the socket, not yet handed to the server, or taken
	from, ready int             // held[from:ready] may be handed over; what follows is not checked, or incomplete
	lent        *[readSize]byte // where held is; nil: in a buffer of the connection's own
	violation   *mqtt.Error
	publish     mqtt.Publish // that take sees
}

// room is where to read into. Without anything held that is a buffer that unused gives back.
func (g *gate) room() []byte {
	switch {
	case g.lent == nil && len(g.held) == 0:
		g.lent = readBuffers.Get().(*[readSize]byte)
		g.held = g.lent[:0]
	case g.lent == nil:
		g.held = slices.Grow(g.held, max(len(g.held), keepSize/2))
	}
	return g.held[len(g.held):cap(g.held)]
}

// unused gives the buffer back, as far as nothing is held, or not much.
func (g *gate) unused() {
	rest := g.held[g.from:]
	switch {
	case g.lent != nil:
		g.held = append([]byte(nil), rest...)
		readBuffers.Put(g.lent)
		g.lent = nil
	case cap(g.held) > max(keepSize, 2*len(rest)):
		g.held = append([]byte(nil), rest...)
	default:
		g.held = g.held[:copy(g.held, rest)]
	}
	g.from, g.ready = 0, g.ready-g.from
}

// add notes that n bytes were read into room.
func (g *gate) add(n int) { g.held = g.held[:len(g.held)+n] }

// advance checks what was read, up to a PUBLISH that take is to see, and which comes behind what the
// server has yet to get. take sees each that is whole, unless it is nil, and says whether it has taken
// it: then the server does not get it.
func (g *gate) advance(take func(p *mqtt.Publish, packet []byte) bool) {
	for g.violation == nil && g.ready < len(g.held) {
		b := g.held[g.ready:]
		if take != nil && g.AtBoundary() && b[0]>>4 == publish {
			if g.from < g.ready || g.Incomplete(b, holdSize) {
				return
			}
			if n := g.Publish(b, &g.publish); n > 0 {
				g.ready += n
				if take(&g.publish, b[:n]) {
					g.from = g.ready
				}
				continue
			}
		}
		opened := g.Open()
		n, violation := g.Step(b)
		g.ready += n
		if g.violation = violation; n == 0 || !opened {
			return
		}
	}
}

// publish is the type of PUBLISH (MQTT 5 section 2.1.2).
const publish = 3

// pass hands over what may be, and returns the number of bytes.
func (g *gate) pass(p []byte) int {
	n := copy(p, g.held[g.from:g.ready])
	g.from += n
	return n
}

// atBoundary says whether everything that was read is whole packets.
func (g *gate) atBoundary() bool {
	return g.violation == nil && len(g.held) == g.ready && g.AtBoundary()
}
