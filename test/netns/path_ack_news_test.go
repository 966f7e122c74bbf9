package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// TestTakenPublishAcksConnack: a PUBLISH that is taken also acknowledges CONNACK; the local socket
// must hear of it, or it would send CONNACK again.
func TestTakenPublishAcksConnack(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			s.warm(t, "sensors/warm/temp", 1)
			r.forget()
			before := s.counts()
			c := rawDial(t, l)
			c.delayACKs()
			c.connect("news")
			for i := range 3 {
				c.publish("sensors/news/temp", uint16(i+1), fmt.Sprint(i))
				if q := sendQueue(t, l, c.LocalAddr().String()); q != "00000000" {
					t.Errorf("after message %d the server's socket still waits for the acknowledgement of 0x%s bytes", i, q)
				}
			}
			if got := r.wait(t, 3); len(got) != 3 {
				t.Errorf("%d messages arrived", len(got))
			}
			if n := s.counts()["xdp_device/ack_news"]; mode == "xdp" && n == 0 {
				t.Error("no PUBLISH acknowledged CONNACK: the test tests nothing")
			}
			if taken, _ := share(before, s.counts()); taken != 3 {
				t.Errorf("the kernel took %d of 3 messages: %v", taken, s.counts())
			}
		})
	}
}

// sendQueue is the unacknowledged part of the server's connection to a client,
// in hexadecimal, from the node's /proc/net/tcp.
func sendQueue(t *testing.T, l *lab.Lab, client string) string {
	t.Helper()
	var data []byte
	if err := l.Do(lab.Node, func() error {
		var err error
		data, err = os.ReadFile("/proc/thread-self/net/tcp6")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(client, ":")
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", n)) && f[3] == "01" {
			queue, _, _ := strings.Cut(f[4], ":")
			return queue
		}
	}
	t.Fatalf("no connection from port %d in\n%s", n, data)
	return ""
}
