//go:build cgo

package hooks

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// The ends of the connections, and what they know for certain. All offsets
// count from the generation's first sequence numbers, which lie far apart.

const prefix = "POST /ingest HTTP/1.1\r\nHost: t\r\nce-source: e/"

const (
	response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	refusal  = "HTTP/1.1 500 NO\r\nContent-Length: 2\r\n\r\nno"
)

var connack = []byte{0x20, 2, 0, 0}

// message is one PUBLISH, and the record of what became of it.
type message struct {
	dev        int
	pid        uint16
	qos        byte
	off        uint32 // in the device's stream
	raw        []byte
	head, tail string // of its request, before and behind the 20 digits of ce-id

	sent     int  // places in pods' streams
	answered bool // the function has answered it
	taken    int  // times that userspace took it over
	reused   bool // the device uses its packet identifier for another message: it need not be acknowledged
}

// matches says whether b is this message's request.
func (m *message) matches(b []byte) bool {
	return len(b) == len(m.head)+20+len(m.tail) && string(b[:len(m.head)]) == m.head &&
		string(b[len(m.head)+20:]) == m.tail
}

// device is one generation of a device's connection, both its ends.
type device struct {
	conn      int
	gen       uint32 // 0: not armed yet
	client    string
	topic     string
	at        end
	iss, niss uint32
	dead      bool // reset, or to be: nothing that it asked for need be answered

	stream   []byte // what it sends
	una      uint32
	got      []int16 // what it received; -1: hole
	notified uint32  // its latest acknowledgement
	closed   bool    // it has received a FIN, at
	finAt    uint32

	local    []byte    // what the socket was passed
	ahead    []segment // passed, but not yet in order
	replaced bool      // there is no such socket: its stack has answered the next SYN
	localSnd uint32
	localDue bool

	aliases bool // it speaks MQTT 5
	read    int  // bytes of local, to a packet's end, that the server has read
}

func (d *device) rcv() uint32 {
	if i := slices.Index(d.got, -1); i >= 0 {
		return uint32(i)
	}
	return uint32(len(d.got))
}

func (d *device) receive(s segment) error {
	off := s.seq - d.niss
	if s.flags&fin != 0 {
		d.closed, d.finAt = true, off+uint32(len(s.data))
	}
	if d.closed && (len(s.data) > 0 && off+uint32(len(s.data)) > d.finAt || uint32(len(d.got)) > d.finAt) {
		return fmt.Errorf("%s: bytes behind the FIN", d.client)
	}
	for i, b := range s.data {
		at := int(off) + i
		for len(d.got) <= at {
			d.got = append(d.got, -1)
		}
		if d.got[at] >= 0 && d.got[at] != int16(b) {
			return fmt.Errorf("%s: byte %d of its stream was %#x, now %#x", d.client, at, d.got[at], b)
		}
		d.got[at] = int16(b)
	}
	if n := s.ack - d.iss; n > uint32(len(d.stream)) && s.flags&ack != 0 && s.flags&syn == 0 {
		return fmt.Errorf("%s: acknowledged to byte %d of %d", d.client, int32(n), len(d.stream))
	} else if s.flags&syn == 0 {
		d.una = max(d.una, n)
	}
	return nil
}

// passed: the socket takes what is next.
func (d *device) passed(s segment) {
	if len(s.data) == 0 {
		return
	}
	d.localDue = true
	s.data = slices.Clone(s.data) // the next run overwrites the record
	d.ahead = append(d.ahead[:len(d.ahead):len(d.ahead)], s)
	for again := true; again; {
		again = false
		for _, s := range d.ahead {
			off := int(int32(s.seq - d.iss)) // a repetition may begin below the first byte
			if have := len(d.local); off <= have && off+len(s.data) > have {
				d.local = append(d.local[:have:have], s.data[have-off:]...)
				again = true
			}
		}
	}
}

func (d *device) segment(from, to uint32) segment {
	d.notified = d.rcv()
	f := byte(ack)
	if to > from {
		f |= psh
	}
	return segment{from: d.at, to: nodeEnd, seq: d.iss + from, ack: d.niss + d.notified, flags: f, wnd: 60000, data: d.stream[from:to]}
}

func (d *device) localSegment(data []byte) segment {
	s := segment{from: nodeEnd, to: d.at, seq: d.niss + d.localSnd, ack: d.iss + uint32(len(d.local)), flags: ack, wnd: 60000, data: data}
	if len(data) > 0 {
		s.flags |= psh
	}
	d.localSnd += uint32(len(data))
	d.localDue = false
	return s
}

// request is a message's place in a pod's stream.
type request struct {
	off, n uint32
	msg    int
	id     string
}

// pod is one generation of a slot's connection, seen by the pod.
type pod struct {
	conn      int
	gen       uint32
	at        end // of the slot
	iss, niss uint32
	dead      bool

	requests []request // by offset
	answered int       // how many of them
	out      []byte    // its responses
	una      uint32
	notified uint32
	ended    byte // fin or rst: it sends nothing new
	passed   bool // the slot's socket heard of it
}

// rcv is how much the pod has without a hole, and in how many requests.
func (p *pod) rcv() (off uint32, n int) {
	for _, r := range p.requests {
		if r.off != off {
			break
		}
		off += r.n
		n++
	}
	return off, n
}

// segment is bytes [from, to) of its responses.
func (p *pod) segment(from, to uint32) segment {
	p.notified, _ = p.rcv()
	s := segment{from: podEnd, to: p.at, seq: p.iss + from, ack: p.niss + p.notified, flags: ack, wnd: 60000}
	if to > from {
		s.flags |= psh
		s.data = p.out[from:to]
	}
	return s
}

// end closes its side, or resets the connection: then a segment of the node is what it answers.
func (p *pod) end(flag byte) segment {
	p.ended = flag
	from, n := p.una, uint32(len(p.out))
	if flag == rst {
		n = from
	}
	s := p.segment(min(from, n), n)
	s.flags |= flag
	return s
}

// receive notes what the pod gets; whose request it is says an independent record.
func (w *world) podReceive(i int, s segment) error {
	p := &w.pods[i]
	n := uint32(len(p.out))
	if p.una = max(p.una, s.ack-p.iss); p.una > n && (p.una > n+1 || p.ended != fin) {
		return fmt.Errorf("slot %d: acknowledged to byte %d, the pod sent %d", p.conn, int32(p.una), n)
	}
	for off, data := s.seq-p.niss, s.data; len(data) > 0; {
		one := data // requests may share a segment; no payload looks like one
		if next := bytes.Index(data[1:], []byte(prefix)); next >= 0 {
			one = data[:1+next]
		}
		if err := w.podRequest(p, off, one); err != nil {
			return err
		}
		off, data = off+uint32(len(one)), data[len(one):]
	}
	return nil
}

func (w *world) podRequest(p *pod, off uint32, data []byte) error {
	msg := slices.IndexFunc(w.msgs, func(m message) bool { return m.matches(data) })
	if msg < 0 {
		return fmt.Errorf("slot %d: no message's request: %q", p.conn, data)
	}
	r := request{off: off, n: uint32(len(data)), msg: msg, id: string(data[len(w.msgs[msg].head):][:20])}
	for _, o := range p.requests {
		if o == r {
			return nil // again
		}
		if r.off < o.off+o.n && o.off < r.off+r.n {
			return fmt.Errorf("slot %d: byte %d was sent as part of message %d, now of message %d", p.conn, r.off, o.msg, msg)
		}
		if o.id == r.id {
			return fmt.Errorf("slot %d: ce-id %s of message %d used again for %d", p.conn, r.id, o.msg, msg)
		}
	}
	if w.msgs[msg].sent++; w.msgs[msg].sent > 1 {
		return fmt.Errorf("message %d was sent to a second place", msg)
	}
	p.requests = append(p.requests[:len(p.requests):len(p.requests)], r)
	slices.SortFunc(p.requests, func(a, b request) int { return int(a.off) - int(b.off) })
	return nil
}

// response makes the pod answer one more request; false: it has none, or has ended.
func (w *world) response(p *pod) bool {
	if _, n := p.rcv(); p.answered == n || p.ended != 0 {
		return false
	}
	w.msgs[p.requests[p.answered].msg].answered = true
	p.say(response)
	return true
}

func (p *pod) say(what string) {
	p.answered++
	p.out = append(p.out[:len(p.out):len(p.out)], what...)
}

// publish adds a message to a device's stream.
func (w *world) publish(dev int, pid uint16, qos byte, payload string) int {
	d := &w.devs[dev]
	var properties []byte
	if d.aliases {
		properties = []byte{0}
	}
	return w.publishTo(dev, pid, qos, payload, d.topic, d.topic, properties)
}

// publishTo: to a topic that it names so, perhaps not at all, with these properties behind their length.
func (w *world) publishTo(dev int, pid uint16, qos byte, payload, topic, name string, properties []byte) int {
	d := &w.devs[dev]
	var body []byte
	body = append(body, 0, byte(len(name)))
	body = append(body, name...)
	x := ""
	if qos > 0 {
		body = append(body, byte(pid>>8), byte(pid))
		x = "X-Mqtt-Qos: 1\r\n"
	}
	body = append(body, properties...)
	body = append(body, payload...)
	raw := append([]byte{0x30 | qos<<1, byte(len(body))}, body...)
	if len(body) > 127 {
		raw = append([]byte{0x30 | qos<<1, byte(len(body)) | 0x80, byte(len(body) >> 7)}, body...)
	}
	w.msgs = append(w.msgs, message{dev: dev, pid: pid, qos: qos, off: uint32(len(d.stream)), raw: raw,
		head: prefix + d.client + "\r\nce-subject: " + topic + "\r\n" + x + "ce-id: ",
		tail: fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)})
	d.stream = append(d.stream[:len(d.stream):len(d.stream)], raw...)
	return len(w.msgs) - 1
}

// payload is unique to a message, and long enough to be copied in parts.
func payload(name string, n int) string { return name + strings.Repeat("."+name, n/(len(name)+1)) }
