package mochi

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
	"eproxy/internal/store"
)

// taking connects a client whose session is kept, which subscribes and takes what it gets, and acknowledges nothing.
func taking(t *testing.T, s *stage, id, qos byte, filter string) net.Conn {
	t.Helper()
	c := s.dial()
	write(t, c, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 1, id)
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, append([]byte(filter), qos)...)...)
	want(t, c, 0x90, 3, 0, 1, qos)
	go func() { _, _ = io.Copy(io.Discard, c) }()
	return c
}

// same says what differs between the messages that wait for clients, their number as it is counted, and their records where there is a disk; how many
// there are.
func (s *stage) same(clients ...string) (n int, difference string) {
	front := s.front
	var waiting, kept []string
	for _, id := range clients {
		cl, ok := front.mqtt.Clients.Get(id)
		if !ok {
			return 0, id + " has no session"
		}
		for _, pk := range cl.State.Inflight.GetAll(false) {
			waiting = append(waiting, store.Key(id, strconv.Itoa(int(pk.PacketID))))
		}
	}
	if n := atomic.LoadInt64(&front.mqtt.Info.Inflight); int(n) != len(waiting) {
		return 0, fmt.Sprintf("%d messages wait, %d are counted", len(waiting), n)
	}
	if front.keep == nil {
		return len(waiting), ""
	}
	front.keep.store.Sync()
	if err := front.keep.store.Each(store.Message, func(key string, _ []byte) error { kept = append(kept, key); return nil }); err != nil {
		return 0, err.Error()
	}
	slices.Sort(waiting)
	if slices.Sort(kept); !slices.Equal(waiting, kept) {
		return 0, fmt.Sprintf("%d messages wait, %d are on disk", len(waiting), len(kept))
	}
	return len(waiting), ""
}

// tight is a stage with room for one message in what is queued for a client.
func tight(t *testing.T, disk bool) *stage {
	return newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		if disk {
			o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 1 << 30}
		}
		made := o.Frontend
		o.Frontend = func(b *broker.Server) (broker.Frontend, error) {
			f, err := made(b)
			if err == nil {
				f.(*Server).outgoing = 1
			}
			return f, err
		}
	})
}

// give publishes a message below t.
func (s *stage) give(name string, qos byte, retain bool, size int) {
	if err := s.front.Publish(&request.Message{Topic: "t/" + name, QoS: qos, Retain: retain, Payload: make([]byte, size)}); err != nil {
		s.t.Error(err)
	}
}

func (s *stage) droppedUntilNow() int64 { return atomic.LoadInt64(&s.front.mqtt.Info.MessagesDropped) }

// TestDroppedForFullQueue: a message that is dropped because too much is queued for its client is neither counted nor kept on disk, also if
// several are given to it at the same time; those before are, and those of a client that gets them with QoS 0 never were.
func TestDroppedForFullQueue(t *testing.T) {
	for _, disk := range []bool{false, true} {
		for _, retain := range []bool{false, true} {
			t.Run(fmt.Sprintf("disk %v retained %v", disk, retain), func(t *testing.T) {
				s := tight(t, disk)
				taking(t, s, 'a', 1, "t/#")
				taking(t, s, 'b', 0, "t/#")
				var wg sync.WaitGroup
				for by := range 3 { // faster than anybody writes
					wg.Go(func() {
						for n := range 1000 {
							s.give(fmt.Sprintf("%d/%d", by, n), 1, retain, 1000)
						}
					})
				}
				wg.Wait()
				if s.droppedUntilNow() < 10 {
					t.Fatalf("%d were dropped", s.droppedUntilNow())
				}
				if n, d := s.same("a", "b"); d != "" || n < 1 {
					t.Errorf("%d wait: %s", n, d)
				}
			})
		}
	}
}

// TestRetainedDroppedForFullQueue: the same of retained messages that a client asks for several times at once, with its next packet or its end.
func TestRetainedDroppedForFullQueue(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("it leaves %v", leaves), func(t *testing.T) {
			s := tight(t, false)
			for n := range 1000 {
				s.give(fmt.Sprint(n), 1, true, 1000)
			}
			c := taking(t, s, 'a', 1, "t/#")
			filter := samples.String("t/#") + "\x01"
			write(t, c, []byte(samples.Packet(0x82, "\x00\x02", filter, filter, filter))...)
			s.waitFor(func() bool { return s.droppedUntilNow() > 10 }, "nothing is dropped")
			if leaves {
				_ = c.Close()
			} else {
				write(t, c, 0xc0, 0)
			}
			s.waitFor(func() bool { n, d := s.same("a"); return n > 0 && d == "" }, "what was dropped is counted")
		})
	}
}
