package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// talk publishes n messages to a function, eight at a time, while the device
// receives as many messages of size bytes on topic news as source has to send.
// It checks every byte that comes and returns the payloads that it published.
func (c *rawConn) talk(source *rawConn, in *bufio.Reader, id string, size, news, n int) (want []string) {
	c.t.Helper()
	errs := make(chan error, 2)
	payload := func(i int) string { return fmt.Sprintf("%06d%s", i, strings.Repeat("n", size-6)) }
	go func() {
		for i := range news {
			if _, err := source.Write(publishPacket("news", 0, 0, payload(i))); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	free := make(chan struct{}, n+8)
	for range 8 {
		free <- struct{}{}
	}
	for i := range n {
		want = append(want, sealed(id, "temp", i, 10))
	}
	go func() {
		for i, p := range want {
			<-free
			if _, err := c.Write(publishPacket("sensors/"+id+"/temp", 1, uint16(i+1), p)); err != nil {
				errs <- err
				return
			}
		}
		errs <- nil
	}()
	acked := make([]bool, n+1)
	for heard, acks := 0, 0; heard < news || acks < n; {
		got, err := readPacket(in)
		switch {
		case err != nil:
			c.t.Fatalf("after %d messages and %d PUBACKs: %v", heard, acks, err)
		case got.first == 0x30 && string(got.body) == "\x00\x04news"+payload(heard):
			heard++
		case got.first == 0x40 && len(got.body) == 2:
			i := int(binary.BigEndian.Uint16(got.body))
			if i < 1 || i > n || acked[i] {
				c.t.Fatalf("PUBACK for %d", i)
			}
			acked[i] = true
			acks++
			free <- struct{}{}
		default:
			other := bytes.IndexFunc(got.body[min(len(got.body), 12):], func(r rune) bool { return r != 'n' })
			c.t.Fatalf("after %d messages and %d PUBACKs: got %x, %d bytes, %.40q, and %.20x from payload byte %d on",
				heard, acks, got.first, len(got.body), got.body, got.body[max(0, min(len(got.body), 12+other)):], other+6)
		}
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		c.t.Fatal(err)
	}
	return want
}

// TestPubackOnlyBetweenPackets: on a long line, where the server's socket stops inside a packet
// until it is acknowledged, PUBACKs come between its packets and never inside.
func TestPubackOnlyBetweenPackets(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			c, source := rawConnect(t, l.Lab, "down"), rawConnectFrom(t, l.Lab, lab.Node, "source")
			c.write([]byte{0x82, 9, 0, 1, 0, 4, 'n', 'e', 'w', 's', 0})
			c.read([]byte{0x90, 3, 0, 1, 0})
			l.set(wire.Faults{Late: 1, Delay: 20 * time.Millisecond}, lab.Dev)
			_ = source.SetDeadline(time.Now().Add(stallLimit))
			_ = c.SetDeadline(time.Now().Add(stallLimit))
			r.once(t, c.talk(source, bufio.NewReader(c), "down", 100_000, 10, 400))
			n := s.counts()
			taken, _ := share(nil, n)
			t.Logf("the kernel took %d messages; %d PUBACKs inserted, %d handed to the server", taken, n["tc_pod_in/response"], n["tc_pod_in/puback_handed"])
			if n["tc_pod_in/response"] == 0 || n["tc_pod_in/puback_handed"] == 0 {
				t.Errorf("PUBACKs did not come both ways: %v", n)
			}
			s.slotsReturn(t)
		})
	}
}
