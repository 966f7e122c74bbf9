package netns

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// TestMalformedOnKernelPath: on a connection that the kernel path serves, too, each violation
// of MQTT ends its own connection, in MQTT 5 with the reason, and nothing else.
func TestMalformedOnKernelPath(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false)+"limits: {max_packet_size: 65536}\n")
			other := rawConnect(t, l, "other")
			sent := 0
			for _, c := range samples.All {
				if c.Code == 0 || c.Version == 0 || c.Packet[0] == '\xe0' && c.Clause == "MQTT-3.14.4-1" {
					continue
				}
				sent++
				t.Run(c.Name, func(t *testing.T) { violate(t, rawDial(t, l), c) })
			}
			other.publish("sensors/other/temp", 9, "fine")
			for _, q := range r.wait(t, sent+1) {
				if q.body != "fine" {
					t.Errorf("a function got %q", q.body)
				}
			}
			if taken, _ := share(nil, s.counts()); taken < sent {
				t.Errorf("the kernel took %d of %d messages: not all connections were its own", taken, sent+1)
			}
		})
	}
}

// violate publishes a message, sends what is malformed, and checks how the
// connection ends.
func violate(t *testing.T, c *rawConn, s samples.Sample) {
	t.Helper()
	c.write([]byte(samples.Hello(s.Version)))
	properties := ""
	if s.Version == 5 {
		properties = samples.Properties()
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil || head[0] != 0x20 {
			t.Fatalf("got % x (%v), want CONNACK", head, err)
		}
		c.discard(int64(head[1]))
	} else {
		c.read([]byte{0x20, 2, 0, 0})
	}
	c.write([]byte(samples.Packet(0x32, samples.String("sensors/a/temp"), "\x00\x07", properties, "fine")))
	c.read([]byte{0x40, 2, 0, 7})
	c.write([]byte(s.Packet))
	got, err := io.ReadAll(c)
	switch {
	case err != nil && !errors.Is(err, syscall.ECONNRESET):
		t.Errorf("the connection does not end: %v", err)
	case s.Version == 5 && err == nil && (len(got) < 3 || got[0] != 0xe0 || got[2] != s.Code):
		t.Errorf("ended with % x, want a DISCONNECT with %#x", got, s.Code)
	case s.Version != 5 && len(got) > 0:
		t.Errorf("ended with % x", got)
	}
}

// discard reads n bytes that do not matter.
func (c *rawConn) discard(n int64) {
	c.t.Helper()
	if _, err := io.CopyN(io.Discard, c, n); err != nil {
		c.t.Fatal(err)
	}
}
