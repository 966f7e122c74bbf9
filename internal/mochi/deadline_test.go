package mochi

import (
	"net"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/delivery"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// deaf connects client c of MQTT 5, subscribed to t, which sends and reads nothing:
// when deaf returns, a writer holds the client's lock and waits.
func (s *stage) deaf(f *fakeGraft, keepAlive byte) net.Conn {
	s.t.Helper()
	c := s.dial()
	_ = c.(*net.TCPConn).SetReadBuffer(1)
	hello := samples.Packet(0x10, samples.String("MQTT"), "\x05\x02\x00"+string([]byte{keepAlive}), samples.Properties(), samples.String("c"))
	write(s.t.(*testing.T), c, []byte(hello+samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("t"), "\x00"))...)
	if _, err := until(c, 0x90); err != nil {
		s.t.Fatal(err)
	}
	_ = f.info.Conn.SetWriteBuffer(1)
	go chatter(c)
	m := &request.Message{Topic: "t", Payload: make([]byte, 900)}
	s.waitFor(func() bool {
		for range 1000 {
			if err := s.front.Publish(m); err != nil {
				s.t.Fatal(err)
			}
		}
		return s.front.mqtt.Info.Clone().MessagesDropped > 0 // the queue behind the writer is full
	}, "the client's queue is never full")
	return c
}

// chatter sends a PUBLISH of QoS 0 again and again, until the connection ends.
func chatter(c net.Conn) {
	for {
		if _, err := c.Write([]byte(samples.Packet(0x30, samples.String("x"), samples.Properties()))); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // a client's pace; nobody waits for it
	}
}

// TestDeafClientIsEnded: a client that sends and does not read keeps neither an
// administrator nor the server's end waiting.
func TestDeafClientIsEnded(t *testing.T) {
	for name, end := range map[string]func(*stage){
		"kick":  func(s *stage) { s.server.Kick("c") },
		"close": func(s *stage) { s.server.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeGraft{closed: make(chan struct{})}
			s := newStage(t, say("ok"), f, anonymous)
			s.deaf(f, 0)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				end(s)
			}()
			for what, done := range map[string]chan struct{}{"the call": ended, "the connection": f.closed} {
				select {
				case <-done:
				case <-time.After(20 * time.Second):
					_ = f.info.Conn.Close()
					t.Fatalf("%s does not end", what)
				}
			}
		})
	}
}

// TestDeafSender: a client that accepts nothing within its keep-alive is
// disconnected, though nobody reads from it any more.
func TestDeafSender(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	write(t, s.deaf(f, 1), 0xc0, 0) // PINGRESP waits for the client's lock, and reading with it
	select {
	case <-f.closed:
	case <-time.After(20 * time.Second):
		_ = f.info.Conn.Close()
		t.Fatal("the connection does not end")
	}
}

// TestAcknowledgedBeyondKeepAlive: a client that only the kernel path has heard of
// for longer than its keep-alive is still written to.
func TestAcknowledgedBeyondKeepAlive(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{}), last: time.Now().Add(time.Minute)}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	connect(t, c, 1)
	s.waitFor(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.asked > 0
	}, "the keep-alive does not pass")
	f.info.Complete(7, broker.NoHold, delivery.Outcome{Acked: true})
	want(t, c, 0x40, 2, 0, 7)
	write(t, c, 0xc0, 0)
	want(t, c, 0xd0, 0)
}

// TestLongKeepAlive: one and a half times the keep-alive is more than 16 bits hold.
func TestLongKeepAlive(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for _, high := range []byte{0xaa, 0xff} { // 43,691 and 65,451 s
		c := s.dial()
		write(t, c, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, high, 0xab, 0, 1, 'c')
		want(t, c, 0x20, 2, 0, 0)
		write(t, c, 0xc0, 0)
		want(t, c, 0xd0, 0)
	}
}
