package netns

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"eproxy/test/lib/lab"
)

// connectAs sends CONNECT of this protocol level (4 or 5) and waits for CONNACK.
func (c *rawConn) connectAs(level byte, id string) {
	c.t.Helper()
	if level == 4 {
		c.connect(id)
		return
	}
	c.write(append([]byte{0x10, byte(13 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', level, 2, 0, 0, 0, 0, byte(len(id))}, id...))
	if first, _ := c.packet(); first != 0x20 {
		c.t.Fatalf("got % x, want CONNACK", first)
	}
}

// packet reads a packet of less than 128 bytes.
func (c *rawConn) packet() (first byte, body []byte) {
	c.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		c.t.Fatal(err)
	}
	body = make([]byte, head[1])
	if _, err := io.ReadFull(c, body); err != nil {
		c.t.Fatal(err)
	}
	return head[0], body
}

// acknowledged reads the PUBACK of a message; MQTT 5 may say more than its identifier.
func (c *rawConn) acknowledged(id uint16) {
	c.t.Helper()
	if first, body := c.packet(); first != 0x40 || len(body) < 2 || uint16(body[0])<<8|uint16(body[1]) != id {
		c.t.Fatalf("got % x % x, want the PUBACK of %d", first, body, id)
	}
}

// publishAs is a PUBLISH of this protocol level, without properties.
func publishAs(level byte, topic string, id uint16, payload string, dup bool) []byte {
	if level == 5 {
		payload = "\x00" + payload
	}
	b := publishPacket(topic, 1, id, payload)
	if dup {
		b[0] |= 8
	}
	return b
}

// TestRepetitionsWhileUnderWay: a client repeats its unacknowledged message with DUP
// on the same connection, as esp-mqtt does every second, while the function takes
// its time, also if userspace has taken the message over: the function runs once,
// one PUBACK comes. With the identifier used again the next message is
// acknowledged only when its own function has answered.
func TestRepetitionsWhileUnderWay(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for _, level := range []byte{4, 5} {
			for _, fails := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/level %d/first attempt fails %v", mode, level, fails), func(t *testing.T) {
					repeats(t, mode, level, fails)
				})
			}
		}
	}
}

func repeats(t *testing.T, mode string, level byte, fails bool) {
	l := newLab(t)
	r := newRecorder()
	gates := map[string]chan struct{}{"first": make(chan struct{}), "second": make(chan struct{})}
	open := map[string]func(){}
	for name, gate := range gates {
		open[name] = sync.OnceFunc(func() { close(gate) })
		defer open[name]()
	}
	attempts := 1
	if fails {
		attempts = 2
	}
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		if fails && n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, _ := r.body(n)
		select {
		case <-gates[body]:
		case <-q.Context().Done():
		}
		ok(n, w, q)
	}, nil)
	config := strings.Replace(oneSlotConfig, "concurrency: 1", "concurrency: 4", 1)
	s := start(t, l, mode, fmt.Sprintf(config, lab.PodAddr(lab.Pod0, false).String()+":8080"))
	c := rawDial(t, l)
	c.connectAs(level, "again")
	const topic, id, repetitions = "sensors/again/temp", 7, 3
	c.write(publishAs(level, topic, id, "first", false))
	r.wait(t, attempts)
	for range repetitions {
		c.write(publishAs(level, topic, id, "first", true))
		c.ping() // behind which the server has seen it
	}
	open["first"]()
	c.acknowledged(id)
	c.ping() // no other PUBACK
	c.write(publishAs(level, topic, id, "second", false))
	r.wait(t, attempts+1)
	c.ping() // no PUBACK before its function has answered
	open["second"]()
	c.acknowledged(id)
	c.ping()
	if got := r.wait(t, attempts+1); len(got) != attempts+1 {
		t.Errorf("the function ran %d times for two messages, want %d", len(got), attempts+1)
	}
	if counts := s.counts(); mode != "fallback" && (counts["control/repeated"] != repetitions || counts[map[string]string{"xdp": "xdp_device", "tc": "tc_device_in"}[mode]+"/taken"] == 0) {
		t.Errorf("repetitions were not counted, or nothing was taken: %v", counts)
	}
}
