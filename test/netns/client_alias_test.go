package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/link"
)

// checkTopics: each message came once, to the topic that it names itself.
func checkTopics(t *testing.T, got []request, want map[string]string) {
	t.Helper()
	seen := map[string]bool{}
	for _, q := range got {
		topic, known := want[q.body]
		if !known || seen[q.body] || q.headers["ce-subject"] != topic {
			t.Errorf("%q came to %s, is known: %v, has come before: %v", q.body, q.headers["ce-subject"], known, seen[q.body])
		}
		seen[q.body] = true
	}
	if len(seen) != len(want) {
		t.Errorf("%d messages came, want %d", len(seen), len(want))
	}
}

// TestAliasesTaken: what a client publishes by alias alone the kernel path takes from when the server has said what it stands for.
func TestAliasesTaken(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			c := paho5(t, l, "c5")
			want := map[string]string{}
			send := func(topic string, alias uint16, of string) {
				t.Helper()
				body := fmt.Sprint("message ", len(want))
				want[body] = of
				if _, err := c.Publish(context.Background(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(body),
					Properties: &paho.PublishProperties{TopicAlias: &alias}}); err != nil {
					t.Fatal(err)
				}
			}
			taken := func() int { n, _ := share(nil, s.counts()); return n }
			topic := func(alias uint16) string { return fmt.Sprintf("sensors/%d/temp", alias) }
			for alias := range uint16(16) {
				send(topic(alias+1), alias+1, topic(alias+1))
			}
			for taken() == 0 { // the server may be about to say so
				send("", 16, topic(16))
			}
			before := taken()
			for i := range uint16(96) {
				if i/16%2 == 0 {
					send("", i%16+1, topic(i%16+1))
				} else { // a client that never leaves the topic out
					send(topic(i%16+1), i%16+1, topic(i%16+1))
				}
			}
			if n := taken() - before; n != 96 {
				t.Errorf("the kernel path took %d of 96: %v", n, s.counts())
			}
			checkTopics(t, r.wait(t, len(want)), want)
		})
	}
}

// TestAliasesOfNpm: the npm client, which is told that it may, gives its topics aliases by itself, and takes them for others where it has more topics.
func TestAliasesOfNpm(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			for _, topics := range []int{4, 24} {
				want := map[string]string{}
				var list []npmPublish
				before := s.counts()
				for i := range 240 {
					topic, body := fmt.Sprintf("sensors/%d/temp", i%topics), fmt.Sprint("message ", i)
					if i%12 > 8 { // and some that it has just used
						topic = list[i-1].Topic
					}
					list, want[body] = append(list, npmPublish{topic, []byte(body), map[string]any{"qos": 1}}), topic
				}
				text, err := json.Marshal(map[string]any{"connect": map[string]any{"clientId": "npm", "protocolVersion": 5, "autoAssignTopicAlias": true}, "publishes": list})
				if err != nil {
					t.Fatal(err)
				}
				if err := onDevice(l, string(text), "node", "node/actions.js", "mqtt://"+lab.NodeV4.String()+":1883"); err != nil {
					t.Fatal(err)
				}
				checkTopics(t, r.wait(t, len(want)), want)
				taken, _ := share(before, s.counts())
				if uses := s.counts()["tc_device_in/alias"] - before["tc_device_in/alias"]; uses < topics || taken == 0 || taken > len(list)-topics {
					t.Errorf("%d topics: %d messages were taken, %d left for their aliases", topics, taken, uses)
				}
				r.forget()
			}
		})
	}
}

// aliasing is a client that uses aliases at random, and knows what they stand for.
type aliasing struct {
	*accountConn
	random *rand.Rand
	topics [17]string
	want   map[string]string // topics of its messages that are routed
	round  int
}

// connect begins a connection, without any alias.
func (a *aliasing) connect(t *testing.T, l *lab.Lab) {
	t.Helper()
	a.accountConn = &accountConn{rawDial(t, l), 5}
	a.topics = [17]string{}
	a.write([]byte(samples.Connect(5, 2, samples.Properties(), samples.String("dev-1"))))
	if p := a.packet(); p[0] != 0x20 || p[3] != 0 || !bytes.Contains(p[4:], []byte{0x22, 0, 16}) {
		t.Fatalf("got % x, want a CONNACK that allows 16 aliases", p)
	}
	a.round++
}

// some are some packets, and how many of them are to be acknowledged.
func (a *aliasing) some() (stream []byte, acks int) {
	for range 1 + a.random.IntN(8) {
		n := 1 + a.random.IntN(4)
		topic := ""
		switch {
		case a.random.IntN(12) == 0:
			stream = append(stream, 0xc0, 0)
			continue
		case a.random.IntN(24) == 0:
			stream = append(stream, samples.Packet(0x82, "\x00\x07", samples.Properties(), samples.String("none"), "\x00")...)
			continue
		case a.topics[n] == "" || a.random.IntN(10) == 0:
			topic = fmt.Sprintf([]string{"sensors/%d/temp", "sensors/%d/temp", "other/%d"}[a.random.IntN(3)], a.random.IntN(5))
		case a.random.IntN(4) == 0:
			topic = a.topics[n]
		}
		if topic != "" {
			a.topics[n] = topic
		}
		first := byte(0x32)
		if a.random.IntN(12) == 0 {
			first |= 1 // retained: the kernel path leaves it
		}
		acks++
		body := fmt.Sprintf("round %d message %d of %s", a.round, len(a.want), a.topics[n])
		if strings.HasPrefix(a.topics[n], "sensors/") {
			a.want[body] = a.topics[n]
		}
		id := uint16(acks)
		stream = append(stream, samples.Packet(first, samples.String(topic), string([]byte{byte(id >> 8), byte(id)}),
			samples.Properties("\x23\x00"+string([]byte{byte(n)})), body)...)
	}
	return stream, acks
}

// send writes a stream, often in pieces of any size, and waits for so many acknowledgements.
func (a *aliasing) send(t *testing.T, stream []byte, acks int) {
	t.Helper()
	for len(stream) > 0 {
		n := len(stream)
		if a.random.IntN(2) == 0 {
			n = 1 + a.random.IntN(n)
		}
		a.write(stream[:n])
		stream = stream[n:]
	}
	for acks > 0 {
		p := a.packet()
		switch p[0] {
		case 0x40:
			acks--
		case 0xd0, 0x90:
		default:
			t.Fatalf("got % x", p)
		}
	}
}

// TestAliasesAreNeverMistaken: whatever a client does with its aliases, and on whatever link, each message comes to the topic that its
// alias stands for where it stands in the stream; a new connection, also one that takes the session over, has none.
func TestAliasesAreNeverMistaken(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l, k := newLinked(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			seed := seedOf(t)
			k.Begin(seed, both(link.Params{Delay: 200 * time.Microsecond, Loss: 0.02, Reorder: 0.03, Hold: 500 * time.Microsecond}))
			a := &aliasing{random: rand.New(rand.NewPCG(seed, 35)), want: map[string]string{}}
			for range 6 {
				a.connect(t, l)
				for range 50 {
					stream, acks := a.some()
					a.send(t, stream, acks)
				}
			}
			checkTopics(t, r.wait(t, len(a.want)), a.want)
			if taken, _ := share(nil, s.counts()); taken < 20 { // most come behind what is missing
				t.Errorf("the kernel path took %d of %d messages: %v", taken, len(a.want), s.counts())
			}
		})
	}
}

// TestAliasEndsWithItsConnection: an alias of the connection before is an error, as is one that is none, wherever the kernel path stands.
func TestAliasEndsWithItsConnection(t *testing.T) {
	eachPath(t, func(a *authority) {
		const alias = "\x23\x00\x01"
		for name, c := range map[string]struct {
			properties string
			code       byte
		}{"of the connection before": {alias, 0x82}, "0": {"\x23\x00\x00", 0x94}, "above the maximum": {"\x23\x00\x11", 0x94}} {
			a.t.Run(name, func(t *testing.T) {
				b := a.in(t)
				x := mustLogIn(t, b.lab, account{version: 5, id: "al", user: "dev"})
				b.warm(x, "sensors/al/temp")
				for i, topic := range []string{"sensors/al/temp", ""} {
					if code, end := x.answer(topic, uint16(i+1), "msg", alias); code != 0 || end {
						t.Errorf("reason code %#x, end %v", code, end)
					}
				}
				y := mustLogIn(t, b.lab, account{version: 5, id: "al", user: "dev"}) // takes the session over
				b.warm(y, "sensors/al/temp")
				if code, end := y.answer("", 3, "msg stolen", c.properties); code != c.code || !end {
					t.Errorf("reason code %#x, end %v, want %#x", code, end, c.code)
				}
				b.expect("msg", "msg")
			})
		}
	})
}

// TestAliasLosesItsRight: a message by an alias alone, which the kernel path takes, is refused from the moment on that a reload has taken the right to its topic.
func TestAliasLosesItsRight(t *testing.T) {
	eachPath(t, func(a *authority) {
		const alias = "\x23\x00\x01"
		x := mustLogIn(a.t, a.lab, account{version: 5, id: "al", user: "eve"})
		id := uint16(0)
		send := func(topic string) byte {
			id++
			code, end := x.answer(topic, id, "msg", alias)
			if end {
				a.t.Fatal("disconnected")
			}
			return code
		}
		want := []string{"msg"}
		send("sensors/al/temp")
		for a.mode != "fallback" {
			before, _ := share(nil, a.sys.counts())
			send("")
			want = append(want, "msg")
			if now, _ := share(nil, a.sys.counts()); now > before {
				break
			}
		}
		old, fresh := `publish: ["sensors/%c/#", `, `publish: ["cmd/%c/#", `
		a.sys.reload(old, fresh, "msg=reloaded")
		if code := send(""); code != 0x87 {
			a.t.Errorf("reason code %#x, want 0x87", code)
		}
		a.sys.reload(fresh, old, "msg=reloaded")
		if code := send(""); code != 0 {
			a.t.Errorf("reason code %#x, want 0", code)
		}
		a.expect(append(want, "msg")...)
	})
}
