package mochi

import (
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// OutgoingMax is how many messages may wait to be written to one client; what comes beyond is dropped for it.
const OutgoingMax = 8192

// outgoing are the messages that wait to be written to one client, which takes as long over that as it likes: who adds one never waits. It
// has memory, and a goroutine, while there are any.
type outgoing struct {
	mu      sync.Mutex
	waiting []*packets.Packet
	first   int    // waiting[first:] are not written yet
	begun   bool   // they may be written now
	writing bool   // a goroutine does
	ended   bool   // the connection has
	last    uint16 // packet identifier that was given
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

// start says whether somebody has to begin to write; q.mu is held.
func (q *outgoing) start() bool {
	start := q.begun && !q.writing && q.first < len(q.waiting)
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
	q.begun = false
}

// next is the message that is to be written now; nil: none is, and who asked is done.
func (q *outgoing) next() *packets.Packet {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == len(q.waiting) {
		q.waiting, q.first = nil, 0
	}
	if q.waiting == nil || !q.begun {
		q.writing = false
		return nil
	}
	pk := q.waiting[q.first]
	q.waiting[q.first] = nil
	q.first++
	return pk
}

// more says whether another message waits.
func (q *outgoing) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first < len(q.waiting)
}

// end forgets what waits: the connection has ended.
func (q *outgoing) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting, q.first, q.ended = nil, 0, true
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
