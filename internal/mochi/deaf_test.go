package mochi

import (
	"net"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/delivery"
)

// TestDeafClient: a client that does not read its acknowledgements holds nobody
// up, and is disconnected when too many wait.
func TestDeafClient(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	_ = c.(*net.TCPConn).SetReadBuffer(1)
	connect(t, c, 0)
	_ = f.info.Conn.SetWriteBuffer(1)
	notified := make(chan struct{})
	go func() {
		defer close(notified)
		for i := range 1 << 18 { // more than the sockets' buffers hold
			f.info.Complete(uint16(i%60000+1), broker.NoHold, delivery.Outcome{Acked: true})
		}
	}()
	deadline := time.After(30 * time.Second)
	for name, done := range map[string]chan struct{}{"telling": notified, "disconnecting": f.closed} {
		select {
		case <-done:
		case <-deadline:
			t.Fatalf("%s waits for the client", name)
		}
	}
}
