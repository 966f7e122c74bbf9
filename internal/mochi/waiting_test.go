package mochi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/pool"
)

// places is limits.inflight_per_client of a stage.
const places = 16

// down is a pool of which function f has no connection: its pods are down.
type down struct{ pool.Pool }

func (d down) Acquire(ctx context.Context, function, client string, avoid []netip.AddrPort) (pool.Lease, error) {
	if function != "f" {
		return d.Pool.Acquire(ctx, function, client, avoid)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// downStage is a stage with a function that is down, f, and another one.
func downStage(t *testing.T, grafter broker.Grafter, adapt ...func(*config.Config)) *stage {
	t.Helper()
	return newStage(t, say("ok"), grafter, anonymous, func(o *broker.Options) {
		for _, f := range adapt {
			f(o.Config)
		}
		o.Engine = delivery.New(o.Config, down{pool.New(o.Config.Functions)}, delivery.Options{})
	})
}

// client connects, with a keep-alive in seconds.
func (s *stage) client(version, keepAlive byte) net.Conn {
	s.t.Helper()
	c := s.dial()
	properties, flags := "", byte(2)
	if version == 5 {
		properties = samples.Properties()
	}
	hello := samples.Packet(0x10, samples.String("MQTT"), string([]byte{version, flags, 0, keepAlive}), properties, samples.String("c"))
	write(s.t.(*testing.T), c, []byte(hello)...)
	if p := packet(s.t, c); p[0] != 0x20 || p[3] != 0 {
		s.t.Fatalf("CONNACK % x", p)
	}
	return c
}

// publishAs is a PUBLISH to a topic.
func publishAs(version, qos byte, topic string, id int) string {
	fields := []string{samples.String(topic)}
	if qos > 0 {
		fields = append(fields, string([]byte{byte(id >> 8), byte(id)}))
	}
	if version == 5 {
		fields = append(fields, samples.Properties())
	}
	return samples.Packet(0x30|qos<<1, append(fields, "payload")...)
}

// subscribeAs is a SUBSCRIBE with packet identifier 1.
func subscribeAs(version byte) string {
	properties := ""
	if version == 5 {
		properties = samples.Properties()
	}
	return samples.Packet(0x82, "\x00\x01", properties, samples.String("t"), "\x00")
}

// TestWaitingClientIsServed: a client whose messages wait for a function gets everything else.
func TestWaitingClientIsServed(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %d QoS %d", version, qos), func(t *testing.T) {
				s := downStage(t, nil)
				c := s.client(version, 60)
				for i := range places {
					write(t, c, []byte(publishAs(version, qos, "in/x", 100+i))...)
				}
				write(t, c, []byte("\xc0\x00"+subscribeAs(version)+publishAs(version, 1, "from/x", 2))...)
				got := map[byte]bool{}
				for range 3 {
					got[packet(t, c)[0]] = true
				}
				if !got[0xd0] || !got[0x90] || !got[0x40] {
					t.Errorf("packets %v, want PINGRESP, SUBACK, and PUBACK of the function that is up", got)
				}
			})
		}
	}
}

// tally reads until there are so many acknowledgements and PINGRESP and SUBACK, and counts those
// with a reason code; err: the connection ended first.
func tally(c net.Conn, acks int) (refused int, err error) {
	for other := 0; acks > 0 || other < 2; {
		p, err := next(c)
		if err != nil {
			return refused, err
		}
		switch p[0] {
		case 0xd0, 0x90:
			other++
		case 0x40, 0x50:
			acks--
			if p[1] > 2 && p[4] == delivery.CodeQuotaExceeded {
				refused++
			}
		}
	}
	return refused, nil
}

// TestTooManyWait: a client with more messages for a function that is down than it has places is heard all the same
// before its keep-alive is over; the policy applies to those that have waited the longest.
func TestTooManyWait(t *testing.T) {
	for _, n := range []int{40, 2000} {
		for _, version := range []byte{4, 5} {
			for qos := range byte(3) {
				for _, dead := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d MQTT %d QoS %d dead letters %v", n, version, qos, dead), func(t *testing.T) {
						tooMany(t, n, version, qos, dead)
					})
				}
			}
		}
	}
}

func tooMany(t *testing.T, n int, version, qos byte, dead bool) {
	if qos == 2 {
		n = min(n, 1000) // Receive Maximum: the client sends no PUBREL
	}
	file := filepath.Join(t.TempDir(), "dead.jsonl")
	s := downStage(t, nil, func(c *config.Config) {
		if dead {
			c.Functions[0].DeadLetter = &config.DeadLetter{File: file}
		}
	})
	c := s.client(version, 1)
	go func() { // the client's socket may not hold it all
		for i := range n {
			_, _ = io.WriteString(c, publishAs(version, qos, "in/x", 100+i))
		}
		_, _ = io.WriteString(c, "\xc0\x00"+subscribeAs(version))
	}()
	over := n - places
	acks := over
	if qos == 0 {
		acks = 0
	}
	refused, err := tally(c, acks)
	if version == 4 && qos > 0 && !dead {
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want the end of the connection: MQTT 3.1.1 has no other way to say no", err)
		}
		return
	}
	if want := acks; err != nil || !dead && refused != want || dead && refused > 0 {
		t.Errorf("%d refused (%v), want %d", refused, err, want)
	}
	outcome := "overload"
	if dead {
		outcome = "dead_letter"
		if b, _ := os.ReadFile(file); bytes.Count(b, []byte("too many messages wait for the function")) != over {
			t.Errorf("%d dead letters, want %d", bytes.Count(b, []byte("\n")), over)
		}
	}
	s.waitFor(func() bool { return s.counts.ended(outcome) == over }, "not all are counted")
}

// TestDeadlineOfWaiting: what waits longer than its function's deadline meets the policy, though its client
// has places enough.
func TestDeadlineOfWaiting(t *testing.T) {
	s := downStage(t, nil, func(c *config.Config) { c.Functions[0].Deadline = 100 * time.Millisecond })
	c := s.client(5, 60)
	write(t, c, []byte(publishAs(5, 1, "in/x", 7))...)
	want(t, c, 0x40, 3, 0, 7, delivery.CodeUnspecified)
	write(t, c, []byte(publishAs(5, 2, "in/x", 8))...)
	want(t, c, 0x50, 3, 0, 8, delivery.CodeUnspecified)
	old := s.client(4, 60) // takes the session over
	write(t, old, []byte(publishAs(4, 1, "in/x", 7))...)
	readAll(t, old)
	if n := s.counts.ended("deadline"); n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
}

// TestOrderedWaitsForItsOwn: of an ordered route one message of a client is under way at a time, in order, on whatever
// connection it came, and the client gets everything else meanwhile.
func TestOrderedWaitsForItsOwn(t *testing.T) {
	const n = 5
	release := make(chan struct{})
	var mu sync.Mutex
	underWay, most, got := 0, 0, ""
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("Ce-Subject"), "x") {
			return
		}
		mu.Lock()
		underWay++
		most = max(most, underWay)
		got += r.Header.Get("Ce-Subject")[3:]
		mu.Unlock()
		<-release
		mu.Lock()
		underWay--
		mu.Unlock()
	}, nil, anonymous, func(o *broker.Options) { o.Config.Routes[0].Ordered = true })
	first := s.client(4, 60)
	for i := range n {
		write(t, first, []byte(publishAs(4, 1, fmt.Sprintf("in/%dx", i), i+1))...)
	}
	write(t, first, []byte("\xc0\x00"+publishAs(4, 1, "from/y", 99))...)
	want(t, first, 0xd0, 0, 0x40, 2, 0, 99)
	second := s.client(4, 60)
	write(t, second, []byte(publishAs(4, 1, "in/5x", n+1)+"\xc0\x00")...)
	want(t, second, 0xd0, 0)
	close(release)
	want(t, second, 0x40, 2, 0, n+1)
	mu.Lock()
	defer mu.Unlock()
	if got != "0x1x2x3x4x5x" || most != 1 {
		t.Errorf("order %s, %d at a time", got, most)
	}
}

// TestMemoryOfWaitingIsBounded: however many clients send however much to a function that is down, what
// the server keeps of it is bounded by the function's queue and one message for each client.
func TestMemoryOfWaitingIsBounded(t *testing.T) {
	const clients, size = 50, 100_000 // 80 MB are offered
	s := downStage(t, nil, func(c *config.Config) { c.Limits.MaxPacketSize = 2 * size })
	payload := bytes.Repeat([]byte("x"), size) // of all clients: what is measured is the server's
	before := inUse()
	for i := range clients {
		c := s.dial()
		write(t, c, []byte(samples.Connect(4, 2, samples.String(fmt.Sprint(i))))...)
		want(t, c, 0x20, 2, 0, 0)
		go func() { // until the test ends
			for n := range places {
				fields := samples.String("in/x") + string([]byte{0, byte(n + 1)})
				head := "\x32" + samples.VarInt(len(fields)+size) + fields
				if _, err := io.WriteString(c, head); err != nil {
					return
				}
				if _, err := c.Write(payload); err != nil {
					return
				}
			}
		}()
	}
	s.waitFor(func() bool {
		behind := 0
		for _, c := range s.front.live.all() {
			if x := c.session.Load(); x != nil && x.Behind() {
				behind++
			}
		}
		return behind >= clients-(16<<20)/size/places // so many have all that they have in the queue
	}, "clients are read though there is no room")
	const most = 16<<20 + clients*3*size // the queue; of each client a message, the next one's beginning, and what that is read into
	used := inUse() - before
	t.Logf("%d MB are used", used>>20)
	if used > most {
		t.Errorf("%d MB are used, want less than %d MB", used>>20, most>>20)
	}
}

// inUse is how many bytes of memory are in use.
func inUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
