package mochi

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
)

// counts is a Recorder.
type counts struct {
	mu       sync.Mutex
	reasons  map[string]int
	outcomes map[string]int // of messages
	fault    atomic.Bool    // panic over the next message
}

func (c *counts) Message(_, _ string, _ byte, outcome string, _ time.Duration) {
	if c.fault.Load() {
		panic("fault")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcomes == nil {
		c.outcomes = map[string]int{}
	}
	c.outcomes[outcome]++
}
func (c *counts) Refused(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reasons == nil {
		c.reasons = map[string]int{}
	}
	c.reasons[reason]++
}

func (c *counts) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := maps.Clone(c.reasons)
	if all == nil {
		all = map[string]int{}
	}
	return all
}

func (c *counts) of(reason string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reasons[reason]
}

// ended is how many messages ended so.
func (c *counts) ended(outcome string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outcomes[outcome]
}

// readAll is what the server sends until it closes; a reset is an end, too.
func readAll(t testing.TB, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the connection does not end: %v; got % x", err, b)
	}
	return b
}

// answers splits what a server sent into packets.
func answers(b []byte) [][]byte {
	var all [][]byte
	for len(b) > 0 {
		r := bytes.NewReader(b[1:])
		n, size, err := packets.DecodeLength(r)
		if end := 1 + size + n; err == nil && end <= len(b) {
			all, b = append(all, b[:end]), b[end:]
			continue
		}
		return append(all, b)
	}
	return all
}

// reasonOf is the reason code of a CONNACK or DISCONNECT of a server.
func reasonOf(packet []byte) byte {
	switch {
	case len(packet) > 3 && packet[0] == packets.Connack<<4:
		return packet[3]
	case len(packet) > 2 && packet[0] == packets.Disconnect<<4:
		return packet[2]
	}
	return 0
}

// TestEveryPacketKindAtServer sends a packet of every kind to a server: after a valid one the
// connection goes on; a violation ends it, with the reason in MQTT 5.
func TestEveryPacketKindAtServer(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for _, c := range samples.All {
		t.Run(c.Name, func(t *testing.T) {
			before := s.counts.all()
			conn := s.dial()
			all := c.Packet
			if c.Version != 0 {
				all = samples.Hello(c.Version) + all
			}
			write(t, conn, []byte(all)...)
			if c.Code == 0 {
				s.goesOn(t, conn, c)
				return
			}
			got := answers(readAll(t, conn))
			answered(t, c, got)
			want := map[byte]string{0x81: "malformed", 0x95: "packet_too_large"}[c.Code]
			if want == "" {
				want = "protocol_error"
			}
			if c.Clause != behindDisconnect {
				before[want]++
			}
			if after := s.counts.all(); !maps.Equal(before, after) {
				t.Errorf("counted %v, want %v", after, before)
			}
		})
	}
	if n := s.counts.of("panic"); n > 0 {
		t.Errorf("%d panics", n)
	}
}

// behindDisconnect is the clause of what nobody answers, nor counts.
const behindDisconnect = "MQTT-3.14.4-1"

// goesOn checks that a PINGREQ is answered, or that DISCONNECT ends the connection.
func (s *stage) goesOn(t *testing.T, conn net.Conn, c samples.Sample) {
	t.Helper()
	if c.Packet[0] == packets.Disconnect<<4 {
		for _, p := range answers(readAll(t, conn)) {
			if p[0] == packets.Disconnect<<4 {
				t.Errorf("answered with % x", p)
			}
		}
		return
	}
	write(t, conn, packets.Pingreq<<4, 0)
	if got, err := until(conn, packets.Pingresp<<4); err != nil {
		t.Errorf("valid, and the connection ended with % x (%v)", got, err)
	}
}

// packet is the next packet of the server.
func packet(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	p, err := next(conn)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// next reads one packet.
func next(conn net.Conn) ([]byte, error) {
	var head [5]byte
	for n := range len(head) {
		if _, err := io.ReadFull(conn, head[n:n+1]); err != nil {
			return nil, err
		}
		if n > 0 && head[n] < 0x80 {
			length, _, err := packets.DecodeLength(bytes.NewReader(head[1 : n+1]))
			p := append(head[:n+1:n+1], make([]byte, length)...)
			if err == nil {
				_, err = io.ReadFull(conn, p[n+1:])
			}
			return p, err
		}
	}
	return nil, errors.New("length of the packet is malformed")
}

// until reads until a packet with this first byte.
func until(conn net.Conn, first byte) (got [][]byte, err error) {
	for {
		p, err := next(conn)
		if err != nil {
			return got, err
		}
		if got = append(got, p); p[0] == first {
			return got, nil
		}
	}
}

// answered checks how a violation was answered.
func answered(t *testing.T, c samples.Sample, got [][]byte) {
	t.Helper()
	version := c.Version
	if version == 0 {
		version = versionOf(c.Packet)
	} else if len(got) > 0 && got[0][0] == packets.Connack<<4 && got[0][3] == 0 {
		got = got[1:]
	} else {
		t.Fatalf("CONNECT before it was answered with % x", got)
	}
	if c.Clause == behindDisconnect {
		c.Code = 0
	}
	if version != 5 {
		for _, p := range got {
			if p[0] != packets.Connack<<4 || p[3] != 1 && p[3] != 2 {
				t.Errorf("answered with % x", p)
			}
		}
		return
	}
	if len(got) != 1 || reasonOf(got[0]) != c.Code {
		t.Errorf("answered with % x, want reason code %#x", got, c.Code)
	}
}

// versionOf is the version that a refused CONNECT speaks, 0 if none.
func versionOf(connect string) byte {
	if i := strings.Index(connect, "\x00\x04MQTT"); connect[0] == 0x10 && i > 0 && len(connect) > i+6 && connect[i+6] == 5 {
		return 5
	}
	return 0
}

// TestConnackForms: what a refused client of each version is told.
func TestConnackForms(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for _, c := range []struct{ name, connect, answer string }{
		{"version 6", samples.Packet(0x10, samples.String("MQTT"), "\x06\x02\x00\x3c", samples.String("c")), "\x20\x02\x00\x01"},
		{"version 4 of MQIsdp", samples.Packet(0x10, samples.String("MQIsdp"), "\x04\x02\x00\x3c", samples.String("c")), "\x20\x02\x00\x01"},
		{"empty client identifier, 3.1.1", samples.Connect(4, 0, samples.String("")), "\x20\x02\x00\x02"},
		{"empty client identifier, 3.1", samples.Connect(3, 2, samples.String("")), "\x20\x02\x00\x02"},
		{"malformed, 3.1.1", samples.Connect(4, 3, samples.String("c")), ""},
		{"malformed, 5", samples.Connect(5, 3, samples.Properties(), samples.String("c")), "\x20\x03\x00\x81\x00"},
		{"authentication method", samples.Connect(5, 2, samples.Properties("\x15"+samples.String("x")), samples.String("c")), "\x20\x03\x00\x8c\x00"},
		{"another protocol", "GET / HTTP/1.1\r\n\r\n", ""},
	} {
		conn := s.dial()
		write(t, conn, []byte(c.connect)...)
		if got := readAll(t, conn); string(got) != c.answer {
			t.Errorf("%s: answered % x, want % x", c.name, got, c.answer)
		}
	}
}

// TestViolationBehindValid: what comes before a violation is processed, what comes
// behind it is not, though all arrive in one segment.
func TestViolationBehindValid(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	conn := s.dial()
	publish := func(id byte, payload string) string {
		return samples.Packet(0x32, samples.String("in/x"), string([]byte{0, id}), samples.Properties(), payload)
	}
	write(t, conn, []byte(samples.Hello(5)+publish(1, "A")+"\x82\x06\x12\x34\x00\x00\x01\x70"+publish(2, "B"))...)
	got := answers(readAll(t, conn))
	if last := got[len(got)-1]; reasonOf(last) != 0x81 {
		t.Errorf("answered % x", got)
	}
	s.server.Drain(t.Context())
	if p := s.payloads(); p != "A" {
		t.Errorf("function got %q, want A", p)
	}
}

// TestLoggedOnce: a violation is logged for everybody once, with the client and the clause.
func TestLoggedOnce(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for range 3 {
		conn := s.dial()
		write(t, conn, []byte(samples.Hello(4)+"\xc1\x00")...)
		readAll(t, conn)
	}
	if got := s.log.String(); strings.Count(got, "clause=") != 1 || !strings.Contains(got, "client=c ") || !strings.Contains(got, "clause=MQTT-2.1.3-1") {
		t.Errorf("logged:\n%s", got)
	}
}

// lockedBuffer is a buffer that several goroutines may use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
