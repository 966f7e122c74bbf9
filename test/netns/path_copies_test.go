package netns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// copiedConfig has a route whose messages subscribers get as well, and one that becomes such a route in a reload.
const copiedConfig = `functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["%[1]s", "%[2]s"], retry: {attempts: 4, backoff: 10ms, max_backoff: 50ms}}
routes:
  - {topic: "both/#", function: temp, also_broker: true}
  - {topic: "later/#", function: temp}
`

// copyLog is what a subscriber has got, by topic and in order.
type copyLog struct {
	mu   sync.Mutex
	got  map[string][]string
	sum  int
	more chan struct{} // closed and replaced at every message
}

func newCopyLog() *copyLog {
	return &copyLog{got: make(map[string][]string), more: make(chan struct{})}
}

func (c *copyLog) add(topic, payload string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[topic] = append(c.got[topic], strings.TrimSpace(payload))
	c.sum++
	close(c.more)
	c.more = make(chan struct{})
}

// waitLast waits until the last message of a topic is this one, and returns all of the topic.
func (c *copyLog) waitLast(t *testing.T, topic, payload string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	for {
		c.mu.Lock()
		got, more := slices.Clone(c.got[topic]), c.more
		c.mu.Unlock()
		if len(got) > 0 && got[len(got)-1] == payload {
			return got
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("%s: %q has not come, %d others have, the last %q", topic, payload, len(got), got[max(0, len(got)-1):])
		}
	}
}

// sameInOrder fails where what came is not what was sent, once each and in order.
func sameInOrder(t *testing.T, topic string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: message %d is %q, want %q", topic, i, got[i], want[i])
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d messages, want %d", topic, len(got), len(want))
	}
}

// follow subscribes a client to a filter; what comes is logged.
func (c *copyLog) follow(t *testing.T, l *lab.Lab, id, filter string, qos byte) {
	t.Helper()
	sub := pahoConnect(t, l, id)
	if err := done(sub.Subscribe(filter, qos, func(_ mqtt.Client, m mqtt.Message) { c.add(m.Topic(), string(m.Payload())) })); err != nil {
		t.Fatal(err)
	}
}

// TestCopiesOfTheKernelPath: what the programs take of an also_broker route, QoS 0 and 1 mixed, gets to its function and to each subscriber, there
// once and in each publisher's order, though userspace has not seen it in its sockets; also the last words of who goes at once.
func TestCopiesOfTheKernelPath(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			const clients, n, window = 4, 400, 50
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(copiedConfig, false))
			subscribers := []*copyLog{newCopyLog(), newCopyLog()}
			for i, sub := range subscribers {
				sub.follow(t, l, fmt.Sprintf("sub%d", i), "both/#", byte(1+i))
			}
			before := s.counts()
			var all sync.WaitGroup
			for i := range clients {
				c := pahoConnect(t, l, fmt.Sprintf("pub%d", i))
				all.Go(func() {
					var tokens []mqtt.Token
					for k, p := range numbers(0, n) {
						tokens = append(tokens, c.Publish(fmt.Sprintf("both/%d", i), min(1, byte(k%4)), false, p))
						if k >= window {
							if err := done(tokens[k-window]); err != nil {
								t.Errorf("message %d of client %d: %v", k-window, i, err)
							}
						}
					}
					for _, tok := range tokens {
						if err := done(tok); err != nil {
							t.Errorf("client %d: %v", i, err)
						}
					}
					c.Disconnect(0)
				})
			}
			all.Wait()
			for _, sub := range subscribers {
				for i := range clients {
					topic := fmt.Sprintf("both/%d", i)
					sameInOrder(t, topic, sub.waitLast(t, topic, numbers(n-1, 1)[0]), numbers(0, n))
				}
			}
			r.wait(t, clients*n)
			after := s.counts()
			taken, _ := share(before, after)
			copied := after["tc_device_in/copied"] + after["xdp_device/copied"]
			t.Logf("the kernel took %d of %d, and copied %d; reasons: %v", taken, clients*n, copied, after)
			if taken < clients*n*9/10 || copied != taken {
				t.Errorf("the kernel took %d of %d messages, and copied %d: %v", taken, clients*n, copied, after)
			}
			if mode == "xdp" && after["xdp_device/copied"] == 0 {
				t.Errorf("XDP has copied nothing: %v", after)
			}
		})
	}
}

// TestCopiesThatNobodyReads: the loader stands still while a client publishes: the ring of copies fills, and what does not fit waits in the client's
// connection. When the loader goes on, function and subscriber get all of it, once and in order.
func TestCopiesThatNobodyReads(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			const n = 60
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(copiedConfig+"limits: {copies: 4096}\n", false))
			sub := newCopyLog()
			sub.follow(t, l, "sub", "both/#", 1)
			c := pahoConnect(t, l, "pub")
			published(t, []mqtt.Token{c.Publish("both/x", 1, false, numbers(0, 1)[0])})
			before := s.counts()
			t.Cleanup(func() { _ = s.Signal(syscall.SIGCONT) }) // before it is to end, also if the test has failed
			if err := s.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			var tokens []mqtt.Token
			for _, p := range numbers(1, n) {
				tokens = append(tokens, c.Publish("both/x", 1, false, p))
			}
			await.True(t, clientTimeout, "a message that finds no room for its copy", func() bool {
				return s.counts()["tc_device_in/copies_full"] > before["tc_device_in/copies_full"]
			})
			if err := s.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			published(t, tokens)
			sameInOrder(t, "both/x", sub.waitLast(t, "both/x", numbers(n, 1)[0]), numbers(0, n+1))
			r.wait(t, n+1)
			t.Logf("reasons: %v", s.counts())
		})
	}
}

// TestCopiesInOrderAcrossPaths: messages that the programs take, and in between such as only the server can (QoS 2, retained, in several
// segments): subscribers get all, in the order in which they were published [MQTT-4.6.0-6].
func TestCopiesInOrderAcrossPaths(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			const n, window = 900, 10
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(copiedConfig, false))
			sub := newCopyLog()
			sub.follow(t, l, "sub", "both/#", 2)
			before := s.counts()
			c := pahoConnect(t, l, "pub")
			tokens := publishMixed(t, c, "both/x", numbers(0, n), window)
			published(t, tokens)
			sameInOrder(t, "both/x", sub.waitLast(t, "both/x", numbers(n-1, 1)[0]), numbers(0, n))
			r.wait(t, n)
			after := s.counts()
			taken, _ := share(before, after)
			t.Logf("the kernel took %d of %d; reasons: %v", taken, n, after)
			if taken < n/4 {
				t.Errorf("the kernel took %d of %d messages: %v", taken, n, after)
			}
		})
	}
}

// TestCopiesFromReloadOn: while messages are under way a route gets also_broker, and loses it again: the function gets each once, the subscriber none
// twice, all that was published while the configuration said so, and none while it did not.
func TestCopiesFromReloadOn(t *testing.T) {
	const n = 400
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", podConfig(copiedConfig, false))
	sub := newCopyLog()
	sub.follow(t, l, "sub", "later/#", 1)
	c := pahoConnect(t, l, "pub")
	publish := func(from int) []mqtt.Token {
		var tokens []mqtt.Token
		for _, p := range numbers(from, n) {
			tokens = append(tokens, c.Publish("later/x", 1, false, p))
		}
		return tokens
	}
	const off, on = `{topic: "later/#", function: temp}`, `{topic: "later/#", function: temp, also_broker: true}`
	tokens := publish(0)
	s.reload(off, on, "msg=reloaded")
	tokens = append(tokens, publish(n)...)
	published(t, tokens)
	got := sub.waitLast(t, "later/x", numbers(2*n-1, 1)[0])
	sameInOrder(t, "later/x", got, numbers(2*n-len(got), len(got)))
	if len(got) < n {
		t.Errorf("%d copies of %d messages that were published after the reload", len(got), n)
	}
	if s.counts()["tc_device_in/copied"] == 0 {
		t.Errorf("the kernel has copied nothing: %v", s.counts())
	}
	tokens = publish(2 * n)
	s.reload(on, off, "msg=reloaded")
	tokens = append(tokens, publish(3*n)...)
	published(t, append(tokens, c.Publish("both/x", 1, false, "end")))
	end := newCopyLog()
	end.follow(t, l, "end", "both/#", 1)
	published(t, []mqtt.Token{c.Publish("both/x", 1, false, "end")})
	end.waitLast(t, "both/x", "end")
	sub.mu.Lock()
	after := slices.Clone(sub.got["later/x"][len(got):])
	sub.mu.Unlock()
	sameInOrder(t, "later/x", after, numbers(2*n, min(len(after), n)))
	r.wait(t, 4*n+2)
}

// TestCopiesForThoseWhoMayAndWant: a subscription with No Local gets nothing of its own, a client that may not subscribe gets nothing, and others get the copy with
// its MQTT 5 properties; all of what the programs have taken. A will of the publisher's comes behind what it has published.
func TestCopiesForThoseWhoMayAndWant(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", podConfig(copiedConfig, false)+fmt.Sprintf(copiedUsers, hashOf(t, "secret")))
	addr := net.JoinHostPort(lab.NodeV4.String(), "1883")
	type heard struct {
		mu  sync.Mutex
		got []*paho.Publish
	}
	join := func(id, user string, noLocal bool, will *paho.WillMessage) (*paho.Client, *heard, net.Conn) {
		conn, err := l.Dial(t.Context(), lab.Dev, addr)
		if err != nil {
			t.Fatal(err)
		}
		h := &heard{}
		c := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.got = append(h.got, p.Packet)
			return true, nil
		}}})
		ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
		defer cancel()
		if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 60, WillMessage: will,
			Username: user, UsernameFlag: user != "", Password: []byte("secret"), PasswordFlag: user != ""}); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "both/#", QoS: 1, NoLocal: noLocal}}})
		return c, h, conn
	}
	pub, own, conn := join("pub", "", true, &paho.WillMessage{Topic: "both/x", Payload: []byte("will"), QoS: 1})
	_, denied, _ := join("denied", "mute", false, nil)
	_, other, _ := join("other", "", false, nil)
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	format, expiry := byte(1), uint32(600)
	const n = 20
	for i := range n {
		if _, err := pub.Publish(ctx, &paho.Publish{Topic: "both/x", QoS: 1, Payload: []byte(fmt.Sprint(i)), Properties: &paho.PublishProperties{
			ContentType: "text/x", PayloadFormat: &format, MessageExpiry: &expiry, User: paho.UserProperties{{Key: "k", Value: "v"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.Close() // without DISCONNECT
	await.True(t, clientTimeout, "all copies and the will", func() bool {
		other.mu.Lock()
		defer other.mu.Unlock()
		return len(other.got) >= n+1
	})
	r.wait(t, n+1)
	for i, p := range other.got {
		want := fmt.Sprint(i)
		if i == n {
			want = "will"
		} else if p.Properties.ContentType != "text/x" || p.Properties.PayloadFormat == nil || *p.Properties.PayloadFormat != 1 || p.Properties.MessageExpiry == nil ||
			*p.Properties.MessageExpiry > 600 || p.Properties.User.Get("k") != "v" || p.Retain {
			t.Errorf("message %d has lost something: %v", i, p.Properties)
		}
		if string(p.Payload) != want {
			t.Errorf("message %d is %s, want %s", i, p.Payload, want)
		}
	}
	if len(own.got)+len(denied.got) > 0 {
		t.Errorf("No Local has got %d, who may not subscribe %d", len(own.got), len(denied.got))
	}
	if copied := s.counts()["tc_device_in/copied"]; copied < n*3/4 {
		t.Errorf("the kernel has copied %d of %d: %v", copied, n, s.counts())
	}
}

// copiedUsers has a user who may not subscribe to what is copied.
const copiedUsers = `auth: {allow_anonymous: true, users: [{username: mute, password_hash: '%s', subscribe: [quiet/#]}]}
`

// TestCopiesWithAliases: messages of an also_broker route with a topic alias are the fallback's, which knows the topic; subscribers get them, with it,
// between those that the programs take, in their order.
func TestCopiesWithAliases(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(copiedConfig, false))
			log := newCopyLog()
			log.follow(t, l, "sub", "both/#", 1)
			conn, err := l.Dial(t.Context(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
			if err != nil {
				t.Fatal(err)
			}
			pub := paho.NewClient(paho.ClientConfig{Conn: conn})
			ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
			defer cancel()
			if _, err := pub.Connect(ctx, &paho.Connect{ClientID: "pub", CleanStart: true, KeepAlive: 60}); err != nil {
				t.Fatal(err)
			}
			const n = 60
			alias := uint16(3)
			for i, payload := range numbers(0, n) {
				p := &paho.Publish{Topic: "both/x", QoS: 1, Payload: []byte(payload), Properties: &paho.PublishProperties{}}
				switch {
				case i == 0:
					p.Properties.TopicAlias = &alias
				case i%3 == 1:
					p.Topic, p.Properties.TopicAlias = "", &alias
				}
				if _, err := pub.Publish(ctx, p); err != nil {
					t.Fatal(err)
				}
			}
			sameInOrder(t, "both/x", log.waitLast(t, "both/x", numbers(n-1, 1)[0]), numbers(0, n))
			r.wait(t, n)
			after := s.counts()
			if after["tc_device_in/copied"]+after["xdp_device/copied"] == 0 || after["tc_device_in/alias"] == 0 {
				t.Errorf("want messages that were copied, and such that were not for their alias: %v", after)
			}
		})
	}
}
