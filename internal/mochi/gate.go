package mochi

import (
	"slices"

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
	// readSize is the least that a read of the socket asks for, in bytes.
	readSize = 512
	// keepSize is how large a buffer may be and still be kept though it is mostly
	// empty, in bytes.
	keepSize = 4096
)

// gate lets through to the server what its Decoder has checked. What it holds
// back is a packet that is not complete, so at most the largest that is allowed,
// and no more than the client has sent of it.
type gate struct {
	mqtt.Decoder
	held        []byte // read from the socket, not yet handed to the server
	from, ready int    // held[from:ready] may be handed over; what follows is incomplete
	violation   *mqtt.Error
}

// room is where to read into: p itself if nothing is held.
func (g *gate) room(p []byte) []byte {
	if len(g.held) == 0 && len(p) > 0 {
		return p
	}
	g.held = slices.Grow(g.held, max(len(p), readSize))
	return g.held[len(g.held):cap(g.held)]
}

// check examines n bytes that were read into room(p), and returns how many bytes
// in p the server may have now.
func (g *gate) check(p []byte, n int) int {
	direct := len(g.held) == 0 && len(p) > 0
	b := p[:min(n, len(p))]
	if !direct {
		g.held = g.held[:len(g.held)+n]
		b = g.held
	}
	pass, violation := g.Next(b)
	rest := b[pass:]
	if g.violation = violation; violation != nil {
		rest = nil // nobody wants to know
	}
	if direct {
		g.held = append(g.held, rest...)
		return pass
	}
	g.held, g.ready = g.held[:pass+len(rest)], pass
	return g.pass(p)
}

// pass hands over what may be, and returns the number of bytes.
func (g *gate) pass(p []byte) int {
	n := copy(p, g.held[g.from:g.ready])
	g.from += n
	if n > 0 && g.from == g.ready {
		rest := g.held[g.ready:]
		if cap(g.held) > max(keepSize, 2*len(rest)) {
			g.held = append([]byte(nil), rest...)
		} else {
			g.held = g.held[:copy(g.held, rest)]
		}
		g.from, g.ready = 0, 0
	}
	return n
}

// atBoundary says whether everything that was read is whole packets.
func (g *gate) atBoundary() bool {
	return g.violation == nil && len(g.held) == g.ready && g.AtBoundary()
}
