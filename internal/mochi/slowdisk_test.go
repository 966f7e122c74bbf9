package mochi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// TestSlowSubscriberWithDisk: what has waited for the disk reaches a client that reads slowly as whole packets, in order, whatever else is
// written to it meanwhile: answers of its own, and messages that wait for nothing.
func TestSlowSubscriberWithDisk(t *testing.T) {
	const messages, size, pings = 40, 100_000, 300
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 1 << 30}
	})
	c := s.dial()
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	write(t, c, []byte(samples.Connect(4, 0, samples.String("slow"))+samples.Packet(0x82, "\x00\x01", samples.String("q/#"), "\x01"))...)
	want(t, c, 0x20, 2, 0, 0, 0x90, 3, 0, 1, 1)
	cl, _ := s.front.mqtt.Clients.Get("slow")
	_ = cl.Net.Conn.(*conn).SetWriteBuffer(32 << 10)
	go func() {
		for i := range messages {
			payload := bytes.Repeat([]byte{byte(i)}, size)
			for qos := range byte(2) {
				if err := s.front.Publish(&request.Message{Topic: fmt.Sprint("q/", qos), QoS: qos, Payload: payload}); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	go func() { // the sockets may not hold them all
		for range pings {
			_, _ = c.Write([]byte{0xc0, 0})
		}
	}()
	var got [2]int // messages by QoS
	for answers := 0; answers < pings || got[0] < messages || got[1] < messages; {
		p := packet(t, c)
		switch qos := p[0] >> 1 & 3; {
		case bytes.Equal(p, []byte{0xd0, 0}):
			answers++
		case p[0]>>4 == 3 && qos < 2 && bytes.Equal(p[len(p)-size:], bytes.Repeat([]byte{byte(got[qos])}, size)):
			if got[qos]++; qos == 1 {
				write(t, c, 0x40, 2, p[9], p[10])
			}
			if id := binary.BigEndian.Uint16(p[9:]); qos == 1 && int(id) != got[1] {
				t.Fatalf("message %d has identifier %d", got[1], id)
			}
		default:
			t.Fatalf("behind %v messages and %d answers: % x", got, answers, p[:min(len(p), 20)])
		}
	}
}
