package mochi

import (
	"eproxy/internal/abi"
	"eproxy/internal/mqtt"
	"eproxy/internal/readbuf"
)

const (
	// connectSize is the largest CONNECT in bytes: 64 KiB for who the client is and
	// 64 KiB for the payload of its will.
	connectSize = 128 << 10
	// topicAliases is the largest topic alias that clients may use: of so many the kernel path
	// knows what they stand for.
	topicAliases = abi.AliasesMax
	// holdSize is how large a PUBLISH may be, in bytes, to be kept until all of it has come, and not
	// be passed in parts.
	holdSize = 32 << 10
)

// gate lets through to the server what its Decoder has checked, but for the PUBLISHes that somebody
// takes instead. What it holds back is a packet that is not complete, so at most the largest that is
// allowed, and no more than the client has sent of it.
type gate struct {
	mqtt.Decoder
	readbuf.Buffer     // read from the socket, not yet handed to the server, or taken
	ready          int // Held[From:ready] may be handed over; what follows is not checked, or incomplete
	violation      *mqtt.Error
	publish        mqtt.Publish // that take sees
}

// unused gives the buffer back, as far as nothing is held, or not much.
func (g *gate) unused() {
	g.ready -= g.From
	g.Idle()
}

// advance checks what was read, up to a PUBLISH that take is to see, and which comes behind what the
// server has yet to get. take sees each that is whole, unless it is nil, and says whether it has taken
// it: then the server does not get it.
func (g *gate) advance(take func(p *mqtt.Publish, packet []byte) bool) {
	for g.violation == nil && g.ready < len(g.Held) {
		b := g.Held[g.ready:]
		if take != nil && g.AtBoundary() && b[0]>>4 == publish {
			if g.From < g.ready || g.Incomplete(b, holdSize) {
				return
			}
			if n := g.Publish(b, &g.publish); n > 0 {
				g.ready += n
				if take(&g.publish, b[:n]) {
					g.From = g.ready
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
	n := copy(p, g.Held[g.From:g.ready])
	g.From += n
	return n
}

// atBoundary says whether everything that was read is whole packets.
func (g *gate) atBoundary() bool {
	return g.violation == nil && len(g.Held) == g.ready && g.AtBoundary()
}
