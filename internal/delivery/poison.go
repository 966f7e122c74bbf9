package delivery

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"eproxy/internal/request"
)

// poison knows messages that functions keep answering with errors while they serve others, of clients that have no
// dead letter file and no way to hear of it: MQTT 3.1.1 can only be disconnected, and sends the message again when it is
// back, for ever. A function that serves nobody has an outage; its messages are kept.
type poison struct {
	mu         sync.Mutex
	young, old map[fingerprint]rounds
}

// rounds is how often a message was given up, each time after its function had served others since the time before.
type rounds struct {
	n      int
	served uint64 // messages that the function had served the last time
}

// fingerprint is that of a message for a function: who sent it, to which topic, and what.
type fingerprint [sha256.Size]byte

const (
	// poisonRounds is how often a message is given up before it counts as one that its function will never have.
	poisonRounds = 3
	// poisonMemory is how many messages are remembered, once over: the youngest of them are, for sure.
	poisonMemory = 4096
)

func fingerprintOf(function string, m *request.Message) (f fingerprint) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(function), []byte(m.ClientID), []byte(m.Topic), m.Payload} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(part)
	}
	h.Sum(f[:0])
	return f
}

// tooOften notes that a message was given up by a function that has served so many others, and says whether that was
// so often that its client is to be freed of it. Only what the function itself has answered counts: who cannot be
// reached has rejected nothing.
func (p *poison) tooOften(function string, m *request.Message, o Outcome, served uint64) bool {
	if m.QoS == 0 || m.Version >= 5 || statusOf(o.Err) == 0 {
		return false
	}
	f := fingerprintOf(function, m)
	p.mu.Lock()
	defer p.mu.Unlock()
	r, known := p.young[f]
	if !known {
		r, known = p.old[f]
	}
	if known && served <= r.served {
		return false
	}
	r = rounds{min(r.n+1, poisonRounds), served}
	if p.young == nil || len(p.young) >= poisonMemory {
		p.young, p.old = make(map[fingerprint]rounds), p.young
	}
	p.young[f] = r
	return r.n == poisonRounds
}

// forget notes that a function has served a message, if it was given up before.
func (p *poison) forget(function string, m *request.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.young)+len(p.old) == 0 {
		return // as nearly always
	}
	f := fingerprintOf(function, m)
	delete(p.young, f)
	delete(p.old, f)
}
