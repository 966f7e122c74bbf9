package mochi

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// slow connects a client that subscribes to q and reads nothing yet, of whose messages the sockets hold few.
func (s *stage) slow(id string, qos byte) net.Conn {
	s.t.Helper()
	c := s.dial()
	_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
	write(s.t.(*testing.T), c, []byte(samples.Connect(4, 2, samples.String(id))+samples.Packet(0x82, "\x00\x01", samples.String("q"), string([]byte{qos})))...)
	want(s.t.(*testing.T), c, 0x20, 2, 0, 0, 0x90, 3, 0, 1, qos)
	cl, _ := s.front.mqtt.Clients.Get(id)
	_ = cl.Net.Conn.(*conn).SetWriteBuffer(32 << 10)
	return c
}

// TestSlowSubscriber: who publishes never waits for a subscriber that does not read. That gets all that it has room for, in order, and none
// that was counted as dropped; then nothing of it is kept.
func TestSlowSubscriber(t *testing.T) {
	const most = OutgoingMax + OutgoingMax/2
	for qos := range byte(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			s := newStage(t, say("ok"), nil, anonymous)
			c := s.slow("slow", qos)
			before := inUse()
			returns(t, "publishing", func() {
				for i := range most {
					m := &request.Message{Topic: "q", QoS: qos, Payload: fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 500))}
					if err := s.front.Publish(m); err != nil {
						t.Error(err)
					}
				}
			})
			i := s.front.mqtt.Info.Clone()
			dropped := int(i.MessagesDropped + i.InflightDropped)
			if room := most - dropped; room < OutgoingMax || room > OutgoingMax+500 {
				t.Errorf("%d of %d dropped, want all but %d, and the few that the sockets hold", dropped, most, OutgoingMax)
			}
			last := -1
			for range most - dropped {
				p := packet(t, c)
				if p[0]>>4 != packets.Publish {
					t.Fatalf("got % x", p[:4])
				}
				n, err := strconv.Atoi(string(p[len(p)-501-len(strconv.Itoa(last+1)) : len(p)-501]))
				if err != nil || n != last+1 {
					t.Fatalf("message %d (%v) behind %d", n, err, last)
				}
				last = n
			}
			write(t, c, 0xc0, 0)
			want(t, c, 0xd0, 0)
			cl, _ := s.front.mqtt.Clients.Get("slow")
			s.waitFor(func() bool {
				q := &cl.Net.Conn.(*conn).out
				q.mu.Lock()
				defer q.mu.Unlock()
				return q.waiting == nil && !q.writing
			}, "the queue is kept")
			cl.ClearInflights()
			s.waitFor(func() bool { return inUse()-before < 1<<20 }, "memory of what was written is kept")
		})
	}
}

// TestQueueOfSteadySubscriber: of a client that is always a little behind no more is kept than what waits.
func TestQueueOfSteadySubscriber(t *testing.T) {
	var q outgoing
	q.begin()
	const behind = 10
	put := func(i int) {
		if _, ok := q.put(&packets.Packet{Created: int64(i)}, OutgoingMax); !ok {
			t.Fatal("no room")
		}
	}
	for i := range behind {
		put(i)
	}
	for i := range 100_000 {
		put(i + behind)
		if pk := q.next(); pk.Created != int64(i) {
			t.Fatalf("message %d in place of %d", pk.Created, i)
		}
	}
	if n := cap(q.waiting); n > 4*behind {
		t.Errorf("room for %d", n)
	}
	q.end()
	if start, ok := q.put(&packets.Packet{}, OutgoingMax); start || !ok || q.waiting != nil {
		t.Error("a message waits for a client that is gone")
	}
}

// TestNothingOvertakesConnack: what comes for a client before it has CONNACK waits for that.
func TestNothingOvertakesConnack(t *testing.T) {
	var q outgoing
	if start, ok := q.put(&packets.Packet{}, OutgoingMax); start || !ok {
		t.Error("it is written at once")
	}
	if !q.begin() || q.begin() {
		t.Error("it is not written once, with CONNACK")
	}
}
