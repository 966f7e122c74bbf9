package netns

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// accepted is a connection to a function that answers each request, and can be
// made to answer what it was not asked.
type accepted struct{ net.Conn }

const surplusResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// serveAccepted serves a function at Pod0; each new connection is passed on first.
func (r *recorder) serveAccepted(t *testing.T, l *lab.Lab, port int) <-chan accepted {
	t.Helper()
	ln, err := l.Listen(lab.Pod0, fmt.Sprintf("%s:%d", lab.PodAddr(lab.Pod0, false), port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conns := make(chan accepted, 64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			conns <- accepted{c}
			go r.answerAll(c)
		}
	}()
	return conns
}

// leftToTest is a message whose first request is left to the test.
const leftToTest = "left to the test"

// find looks for a request.
func find(r *recorder, body string) (request, bool) {
	got, _ := r.all()
	for _, q := range got {
		if q.body == body {
			return q, true
		}
	}
	return request{}, false
}

func (r *recorder) answerAll(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		_, again := find(r, string(body))
		r.add(request{body: string(body)})
		if string(body) == leftToTest && !again {
			continue
		}
		_, _ = io.WriteString(c, surplusResponse)
	}
}

const earlyConfig = `functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["%s:8080"], concurrency: 1, timeout: 20s, retry: {attempts: 5, backoff: 20ms}}
routes:
  - {topic: sensors/+/temp, function: temp}
  - {topic: sensors/+/both, function: temp, also_broker: true}
`

// TestEarlyResponseIsNoResponse: a function answers once more than it was asked, while the
// next request is on its way to it: that is no response to it. The connection is
// given up, and the message reaches the function before it is acknowledged. By
// the kernel path, by the fallback beside it, and by the fallback alone.
func TestEarlyResponseIsNoResponse(t *testing.T) {
	const held = "on its way for long"
	for _, c := range []struct{ mode, topic string }{{"xdp", "sensors/early/temp"}, {"tc", "sensors/early/temp"}, {"tc", "sensors/early/both"}, {"fallback", "sensors/early/temp"}} {
		t.Run(c.mode+" "+c.topic[len("sensors/early/"):], func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			conns := r.serveAccepted(t, l.Lab, 8080)
			start(t, l.Lab, c.mode, fmt.Sprintf(earlyConfig, lab.PodAddr(lab.Pod0, false)))
			d := rawConnect(t, l.Lab, "early")
			d.publish(c.topic, 1, "first")
			conn := <-conns
			slot := uint16(conn.RemoteAddr().(*net.TCPAddr).Port)
			cable := l.cables[lab.Pod0]
			lost := make(chan struct{}, 64)
			ended := endOf(cable, slot)
			cable.SetPlan(wire.B, losing(held, lost))
			d.write(publishPacket(c.topic, 1, 2, held))
			<-lost
			if _, err := io.WriteString(conn, surplusResponse); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(15 * time.Second):
				t.Error("the connection lives on")
			}
			cable.SetPlan(wire.B, nil)
			d.read([]byte{0x40, 2, 0, 2})
			if _, ok := find(r, held); !ok {
				t.Error("acknowledged, but the function has not read it")
			}
		})
	}
}

// TestEarlyResponseBehindRefusal: the same where userspace reads what the function sends:
// it refuses one message, and answers another that is on its way.
func TestEarlyResponseBehindRefusal(t *testing.T) {
	const held = "on its way for long"
	l := newWired(t, seedOf(t))
	r := newRecorder()
	conns := r.serveAccepted(t, l.Lab, 8080)
	start(t, l.Lab, "tc", strings.Replace(fmt.Sprintf(earlyConfig, lab.PodAddr(lab.Pod0, false)), "concurrency: 1", "concurrency: 1, pipeline: 2", 1))
	d := rawConnect(t, l.Lab, "early")
	topic := "sensors/early/temp"
	d.write(publishPacket(topic, 1, 1, leftToTest))
	r.wait(t, 1)
	conn := <-conns
	lost := make(chan struct{}, 64)
	cable := l.cables[lab.Pod0]
	ended := endOf(cable, uint16(conn.RemoteAddr().(*net.TCPAddr).Port))
	cable.SetPlan(wire.B, losing(held, lost))
	d.write(publishPacket(topic, 1, 2, held))
	<-lost
	if _, err := io.WriteString(conn, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"+surplusResponse); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Error("the connection lives on")
	}
	cable.SetPlan(wire.B, nil)
	got := make([]byte, 8)
	if _, err := io.ReadFull(d, got); err != nil || got[0] != 0x40 || got[4] != 0x40 || got[3]+got[7] != 3 {
		t.Fatalf("got % x, %v", got, err)
	}
	if _, ok := find(r, held); !ok {
		t.Error("acknowledged, but the function has not read it")
	}
}

// endOf is sent to when the node ends a connection, of which this is its port.
func endOf(cable *wire.Wire, port uint16) <-chan struct{} {
	ended := make(chan struct{}, 64)
	cable.Watch(func(at wire.Side, s wire.Segment) {
		if src, _ := s.Ports(); at == wire.B && src == port && s.Flags()&(fin|rst) != 0 {
			ended <- struct{}{}
		}
	})
	return ended
}

// losing loses segments that carry this, and says so.
func losing(what string, lost chan<- struct{}) wire.Plan {
	return func(s wire.Segment) []wire.Segment {
		if !bytes.Contains(s.Payload(), []byte(what)) {
			return []wire.Segment{s}
		}
		lost <- struct{}{}
		return nil
	}
}
