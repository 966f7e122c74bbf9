package netns

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
)

// TestRelayedPayloads: whatever a payload begins with, it is no packet of its own, in one segment with its head or alone.
func TestRelayedPayloads(t *testing.T) {
	x := newRelayed(t, "tc", "", "")
	sub := rawConnect(t, x.lab, "sub")
	sub.subscribe("plain")
	pub := rawConnect(t, x.lab, "pub")
	for first := range 256 {
		payload := string([]byte{byte(first)})
		packet := []byte(samples.Packet(0x30, samples.String("plain"), payload))
		if first%2 == 0 {
			packet = []byte(samples.Packet(0x30, samples.String("plain"), payload+"\x02\x00\x01\x00"))
		}
		if _, err := pub.Write(packet); err != nil {
			t.Fatal(err)
		}
		sub.read(packet)
	}
}

// resident is how much memory a process has, in bytes.
func resident(t *testing.T, p *lab.Process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// What a client that does not read is sent. The broker sends so many at a time, far more than sockets hold.
const (
	deafMessages = 60
	deafPayload  = 1 << 20
	deafInFlight = 40
)

// mostHeld is how many bytes more the process may have for one client: less than a tenth of what is under way for it.
const mostHeld = 4 << 20

// big is a message of deafPayload bytes, of this number.
func big(n int) []byte { return bytes.Repeat([]byte{byte('a' + n%26)}, deafPayload) }

// TestRelayedDeafClient: what a client does not read waits in its broker, not in eproxy, which serves others meanwhile; it gets all of it when it reads.
func TestRelayedDeafClient(t *testing.T) {
	x := newRelayed(t, "tc", fmt.Sprintf("allow_anonymous true\nmax_inflight_messages %d\n", deafInFlight), "")
	deaf := rawConnect(t, x.lab, "deaf")
	deaf.subscribe("plain")
	x.warm(t, "sensors/warm/temp", 8)
	pub := newSide(t, x.lab, lab.Node, "127.0.0.1:1884", "pub") // at the broker itself
	before := resident(t, x.Process)
	for n := range deafMessages {
		publish5(t, pub.Client, &paho.Publish{Topic: "plain", QoS: 1, Payload: big(n)})
	}
	other, _, in := x.connect(t, &paho.Connect{ClientID: "other", CleanStart: true, KeepAlive: 60})
	subscribe5(t, other, "small", 1)
	for n := range 50 {
		publish5(t, other, &paho.Publish{Topic: "small", QoS: 1, Payload: fmt.Append(nil, n)})
		expectPayload(t, in, fmt.Sprint(n))
	}
	if held := resident(t, x.Process) - before; held > mostHeld {
		t.Errorf("eproxy has %d bytes more, of %d that wait for a client", held, deafInFlight*deafPayload)
	}
	_ = deaf.SetDeadline(time.Now().Add(time.Minute))
	for n := range deafMessages {
		deaf.receive("plain", big(n))
	}
}

// subscribe subscribes to a topic with QoS 1.
func (c *rawConn) subscribe(topic string) {
	c.t.Helper()
	if _, err := c.Write([]byte(samples.Packet(0x82, "\x00\x01", samples.String(topic), "\x01"))); err != nil {
		c.t.Fatal(err)
	}
	c.read([]byte("\x90\x03\x00\x01\x01"))
}

// receive reads a message of QoS 1 and acknowledges it.
func (c *rawConn) receive(topic string, payload []byte) {
	c.t.Helper()
	want := []byte(samples.Packet(0x32, samples.String(topic), "\x00\x00", string(payload)))
	id := len(want) - len(payload) - 2
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		c.t.Fatal(err)
	}
	copy(want[id:], got[id:id+2])
	if !bytes.Equal(got, want) {
		c.t.Fatalf("got % x..., want % x...", got[:16], want[:16])
	}
	if _, err := c.Write([]byte{0x40, 2, got[id], got[id+1]}); err != nil {
		c.t.Fatal(err)
	}
}

// TestRelayedDeafBroker: a client of a broker that does not read is not read from, but for what is taken in the kernel; all of what it has sent
// arrives when the broker goes on.
func TestRelayedDeafBroker(t *testing.T) {
	x := newRelayed(t, "tc", "", "")
	sub := rawConnect(t, x.lab, "sub")
	sub.subscribe("plain")
	pub := rawConnect(t, x.lab, "pub")
	x.warm(t, "sensors/warm/temp", 8)
	before := resident(t, x.Process)
	if err := x.broker.run.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64 // messages that were written
	sent := make(chan error, 1)
	go func() {
		for n := range deafMessages {
			if _, err := pub.Write([]byte(samples.Packet(0x30, samples.String("plain"), string(big(n))))); err != nil {
				sent <- err
				return
			}
			got.Add(1)
		}
		sent <- nil
	}()
	stalled(t, &got)
	if held := resident(t, x.Process) - before; held > mostHeld {
		t.Errorf("eproxy has %d bytes more, of %d that are for the broker", held, deafMessages*deafPayload)
	}
	if err := x.broker.run.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	_ = sub.SetDeadline(time.Now().Add(time.Minute))
	_ = pub.SetDeadline(time.Now().Add(time.Minute))
	for n := range deafMessages {
		want := []byte(samples.Packet(0x30, samples.String("plain"), string(big(n))))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(sub, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("message %d: % x...: %v", n, got[:16], err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// stalled waits until nothing gets on any more.
func stalled(t *testing.T, got *atomic.Int64) {
	t.Helper()
	last, same := int64(-1), 0
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for same < 20 {
		<-tick.C
		if n := got.Load(); n != last {
			last, same = n, 0
			continue
		}
		same++
	}
	if last == deafMessages {
		t.Fatal("all messages were taken, though the broker reads none")
	}
}
