package netns

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// persistentConfig keeps sessions, and has a function of batches beside that of single messages.
const persistentConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
  - name: log
    url: http://log.local/ingest
    pods: ["%[1]s", "%[2]s"]
    batch: {max_messages: 10, linger: 5ms}
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: log/#
    function: log
persistence: {dir: DIR/sessions}
`

// TestPersistenceOverKills: kill -9 at any moment while real clients with sessions publish QoS 2 to functions, one by one and in batches, and to a
// subscriber. What was acknowledged arrives: once at the subscriber, and at functions once, or again with the same ce-id where the kill fell
// between the answer and its record. Retained messages are there at the end.
func TestPersistenceOverKills(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) { persistenceOverKills(t, mode) })
	}
}

func persistenceOverKills(t *testing.T, mode string) {
	l, r := newLab(t), newRecorder()
	r.serveGo(t, l, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(podConfig(persistentConfig, false), "DIR", t.TempDir())
	run := func() *lab.Process {
		p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: mode, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := run()
	if err := mosquitto(t, l, lab.NodeV4.String(), "beginner", "", "-t", "news/"+begins, "-r", "-q", "1", "-m", begins); err != nil {
		t.Fatal(err)
	}
	seen, once := keeper(t, l), subscribeExact(t, l, "news/#")
	const kills = 3
	var sent []*exact
	for _, topic := range []string{"sensors/exact/temp", "log/exact", "news/exact"} {
		sent = append(sent, publishExact(t, l, topic))
	}
	for round := range kills {
		if err := mosquitto(t, l, lab.NodeV4.String(), "retainer", "", "-t", fmt.Sprintf("kept/%d", round), "-r", "-q", "1", "-m", fmt.Sprint(round)); err != nil {
			t.Fatal(err)
		}
		for _, e := range sent {
			have := e.count()
			until(t, e.topic+" goes on", func() bool { return e.count() >= have+15 })
		}
		p.Kill()
		p = run()
	}
	for _, e := range sent {
		have := e.count()
		until(t, e.topic+" goes on at the end", func() bool { return e.count() >= have+5 })
		e.stop()
	}
	out, err := l.Run(context.Background(), lab.Dev, "mosquitto_sub", "-h", lab.NodeV4.String(), "-t", "kept/#", "-C", fmt.Sprint(kills), "-W", "20", "-F", "%r %t %p")
	for round := range kills {
		if want := fmt.Sprintf("1 kept/%[1]d %[1]d\n", round); !strings.Contains(string(out), want) {
			t.Errorf("retained messages (%v):\n%swant %s", err, out, want)
		}
	}
	got, _ := r.all()
	for _, e := range sent[:2] {
		e.check(t, idsOf(t, got, e.topic), kills)
	}
	news := sent[2]
	await.Within(clientTimeout, func() bool {
		one, exactly := seen(), once()
		return !slices.ContainsFunc(news.acked(), func(p string) bool { return one[p] == 0 || exactly[p] == 0 })
	})
	for _, payload := range news.acked() {
		sent, wire := news.exchanges(payload)
		if n := once()[payload]; n < 1 || n > sent {
			t.Errorf("the subscriber of QoS 2 got %q %d times; sent was %q", payload, n, wire)
		}
		if seen()[payload] == 0 {
			t.Errorf("mosquitto_sub did not get %q", payload)
		}
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// begins is retained before subscribers come: who has it has subscribed.
const begins = "begins"

// keeper is mosquitto_sub with a session, and has subscribed; it says how often it has got each payload.
func keeper(t *testing.T, l *lab.Lab) (seen func() map[string]int) {
	t.Helper()
	cmd := lab.Command(context.Background(), "mosquitto_sub", "-h", lab.NodeV4.String(), "-c", "-i", "keeper", "-q", "1", "-t", "news/#", "-k", "5")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(lab.Dev, cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var n tally
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.add(lines.Text())
		}
	}()
	until(t, "mosquitto_sub has subscribed", func() bool { return n.all()[begins] > 0 })
	return n.all
}

// tally counts payloads.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(payload string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = make(map[string]int)
	}
	t.n[payload]++
}

func (t *tally) all() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}

// subscribeExact is a subscriber of QoS 2 with a session that does as section 4.3.3 says, and comes back whenever it is disconnected; it says how
// often it has got each payload. (mosquitto_sub with QoS 2 was seen to show messages twice here that this one got once.)
func subscribeExact(t *testing.T, l *lab.Lab, filter string) (seen func() map[string]int) {
	t.Helper()
	var n tally
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	t.Cleanup(func() { cancel(); done.Wait() })
	begun := make(chan struct{})
	done.Go(func() {
		open := make(map[uint16]bool) // received, and not released
		for first := true; ctx.Err() == nil; {
			var c net.Conn
			await.Within(clientTimeout, func() bool { // nobody may be listening
				c, _ = l.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
				return c != nil || ctx.Err() != nil
			})
			if c == nil {
				continue
			}
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			_, _ = c.Write([]byte("\x10\x10\x00\x04MQTT\x04\x00\x00\x00\x00\x04once"))
			if first {
				_, _ = c.Write(append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter+"\x02"...))
			}
			for r := bufio.NewReader(c); ; {
				kind, body, err := readShort(r)
				if err != nil {
					break
				}
				switch kind >> 4 {
				case 9:
					first = false
					close(begun)
				case 3:
					at := 2 + int(binary.BigEndian.Uint16(body))
					id := binary.BigEndian.Uint16(body[at:])
					if !open[id] {
						n.add(string(body[at+2:]))
					}
					open[id] = true
					_, _ = c.Write([]byte{0x50, 2, body[at], body[at+1]})
				case 6:
					delete(open, binary.BigEndian.Uint16(body))
					_, _ = c.Write([]byte{0x70, 2, body[0], body[1]})
				}
			}
			stop()
			_ = c.Close()
		}
	})
	select {
	case <-begun:
	case <-time.After(clientTimeout):
		t.Fatal("no SUBACK")
	}
	return n.all
}

// readShort reads a packet of up to 127 bytes.
func readShort(r *bufio.Reader) (kind byte, body []byte, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return kind, body, err
}

// exact is paho with a session that publishes with QoS 2, one message after the other, and comes back whenever it is disconnected.
type exact struct {
	topic string
	mu    sync.Mutex
	done  []string // payloads whose exchange is complete
	wire  []string // the PUBLISH and PUBREL that it has sent
	end   chan struct{}
	ended chan struct{}
}

func publishExact(t *testing.T, l *lab.Lab, topic string) *exact {
	t.Helper()
	e := &exact{topic: topic, end: make(chan struct{}), ended: make(chan struct{})}
	addr := net.JoinHostPort(lab.NodeV4.String(), "1883")
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("exact-" + strings.ReplaceAll(topic, "/", "-")).SetCleanSession(false).
		SetMaxReconnectInterval(100 * time.Millisecond).SetConnectRetryInterval(50 * time.Millisecond)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		c, err := l.Dial(context.Background(), lab.Dev, addr)
		if err != nil {
			return nil, err
		}
		return noting{c, e}, nil
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	go func() {
		defer close(e.ended)
		defer c.Disconnect(250)
		for i := 0; ; i++ {
			payload := fmt.Sprintf("%s %d", topic, i)
			tok := c.Publish(topic, 2, false, payload)
			select {
			case <-e.end:
				return
			case <-tok.Done():
			}
			if tok.Error() == nil {
				e.mu.Lock()
				e.done = append(e.done, payload)
				e.mu.Unlock()
			}
		}
	}()
	return e
}

// noting notes what a client sends, a packet at a time.
type noting struct {
	net.Conn
	to *exact
}

func (n noting) Write(b []byte) (int, error) {
	n.to.mu.Lock()
	switch b[0] >> 4 {
	case 3:
		topic := int(b[2])<<8 | int(b[3])
		n.to.wire = append(n.to.wire, fmt.Sprintf("PUBLISH %x id %x %s", b[0], b[4+topic:6+topic], b[6+topic:]))
	case 6:
		n.to.wire = append(n.to.wire, fmt.Sprintf("PUBREL id %x", b[2:4]))
	case 1:
		n.to.wire = append(n.to.wire, "CONNECT")
	}
	n.to.mu.Unlock()
	return n.Conn.Write(b)
}

func (e *exact) acked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.done...)
}

func (e *exact) count() int { return len(e.acked()) }

func (e *exact) stop() { close(e.end); <-e.ended }

// exchanges is how often the client has begun to send a message: again if it had sent PUBREL already, as paho does when the connection breaks just
// then, although it must not [MQTT-4.3.3-6]. wire is all that it has sent of it.
func (e *exact) exchanges(payload string) (n int, wire []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id, released := "", true
	for _, w := range e.wire {
		switch f := strings.Fields(w); {
		case strings.HasSuffix(w, " "+payload):
			if released {
				n++
			}
			id, released = f[3], false
			wire = append(wire, w)
		case f[0] == "PUBREL" && f[2] == id:
			released = true
			wire = append(wire, w)
		}
	}
	return n, wire
}

// check looks at the ce-ids, by payload, with which a function got the client's messages.
func (e *exact) check(t *testing.T, ids map[string][]string, kills int) {
	t.Helper()
	again := 0
	for _, payload := range e.acked() {
		got := ids[payload]
		if len(got) == 0 {
			t.Errorf("%q was acknowledged and never delivered", payload)
			continue
		}
		ids := make(map[string]bool)
		for _, id := range got {
			ids[id] = true
		}
		sent, wire := e.exchanges(payload)
		if again += max(0, len(got)-sent); len(ids) > sent {
			t.Errorf("%q has the ce-ids %q; sent was %q", payload, got, wire)
		}
	}
	if t.Logf("%s: %d messages, %d repeated", e.topic, e.count(), again); again > kills {
		t.Errorf("%s: %d messages came again after %d kills", e.topic, again, kills)
	}
}

// idsOf are the ce-ids of a topic's messages, by payload, of single requests and of batches.
func idsOf(t *testing.T, got []request, topic string) map[string][]string {
	t.Helper()
	ids := make(map[string][]string)
	for _, q := range got {
		if q.headers["ce-subject"] == topic {
			ids[q.body] = append(ids[q.body], q.headers["ce-id"])
		}
		if !strings.HasPrefix(q.headers["content-type"], "application/cloudevents-batch+json") {
			continue
		}
		var events []struct {
			ID      string `json:"id"`
			Subject string `json:"subject"`
			Data    string `json:"data_base64"`
		}
		if err := json.Unmarshal([]byte(q.body), &events); err != nil {
			t.Fatalf("batch %s: %v", q.body, err)
		}
		for _, x := range events {
			if x.Subject == topic {
				b, _ := base64.StdEncoding.DecodeString(x.Data)
				ids[string(b)] = append(ids[string(b)], x.ID)
			}
		}
	}
	return ids
}
