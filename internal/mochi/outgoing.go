package mochi

import (
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// OutgoingMax is how many messages may wait to be written to one client; what comes beyond is dropped for it. Of the retained messages of its
// SUBSCRIBEs as many may wait besides, or as many as there are on all topics, if that is more.
const OutgoingMax = 8192

// outgoing are the messages that wait to be written to one client, which takes as long over that as it likes: who adds one never waits. It
// has memory, and a goroutine, while there are any.
type outgoing struct {
	mu      sync.Mutex
	waiting []*packets.Packet
	first   int    // waiting[first:] are not written yet
	ahead   int    // of these, those that come before the retained ones
	begun   bool   // they may be written now
	writing bool   // a goroutine does
	ended   bool   // the connection has
	last    uint16 // packet identifier that was given

	retained []*packets.Packet // that the client has for its SUBSCRIBEs
}

// put puts a message behind the others, of which there are at most so many, and says whether there is room. start: nobody writes it yet, which the caller is to see to.
func (q *outgoing) put(pk *packets.Packet, most int) (start, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.waiting) - q.first
	if q.ended || n >= most {
		return false, q.ended // after the connection's end there is nobody to miss it
	}
	if len(q.waiting) == cap(q.waiting) && q.first >= n { // of a client that is never quite done with
		clear(q.waiting[copy(q.waiting, q.waiting[q.first:]):])
		q.waiting, q.first = q.waiting[:n], 0
	}
	q.waiting = append(q.waiting, pk)
	return q.start(), true
}

// putRetained puts a retained message behind the others of these, of which there are at most so many, and says whether there is room. All that
// has come since hold comes behind: it may be newer. It is held, so nobody is to begin to write.
func (q *outgoing) putRetained(pk *packets.Packet, most int) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || len(q.retained) >= most {
		return q.ended
	}
	q.retained = append(q.retained, pk)
	return true
}

// any says whether a message waits; q.mu is held.
func (q *outgoing) any() bool { return q.first < len(q.waiting) || len(q.retained) > 0 }

// start says whether somebody has to begin to write; q.mu is held.
func (q *outgoing) start() bool {
	start := q.begun && !q.writing && q.any()
	q.writing = q.writing || start
	return start
}

// begin lets what waits be written from now on; start as of put.
func (q *outgoing) begin() (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun = true
	return q.start()
}

// hold keeps what waits from being written until begin.
func (q *outgoing) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.begun = false; len(q.retained) == 0 {
		q.ahead = len(q.waiting) - q.first
	}
}

// next is the message that is to be written now; nil: none is, and who asked is done.
func (q *outgoing) next() *packets.Packet {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == len(q.waiting) {
		q.waiting, q.first = nil, 0
	}
	if !q.begun || !q.any() {
		q.writing = false
		return nil
	}
	if q.ahead == 0 && len(q.retained) > 0 {
		return q.nextRetained()
	}
	pk := q.waiting[q.first]
	q.waiting[q.first] = nil
	q.first++
	q.ahead = max(0, q.ahead-1)
	return pk
}

// nextRetained is next of the retained messages, of which there is one; q.mu is held.
func (q *outgoing) nextRetained() *packets.Packet {
	pk := q.retained[0]
	q.retained[0] = nil
	if q.retained = q.retained[1:]; len(q.retained) == 0 {
		q.retained = nil
	}
	return pk
}

// more says whether another message waits.
func (q *outgoing) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.any()
}

// end forgets what waits: the connection has ended.
func (q *outgoing) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting, q.first, q.retained, q.ended = nil, 0, nil, true
}

// identifier is a packet identifier for the next message: the one behind the last that is not taken. There is one, of
// 65,535, as fewer messages wait for a client.
func (q *outgoing) identifier(taken func(uint16) bool) uint16 {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.last++; q.last == 0 || taken(q.last); q.last++ {
	}
	return q.last
}

// follow has identifiers go on where those of the connection before end.
func (q *outgoing) follow(before *outgoing) {
	before.mu.Lock()
	last := before.last
	before.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = last
}
