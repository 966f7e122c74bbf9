package netns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/test/lib/lab"
)

// bridgeRoutes are the routes of messages that come by the bridge.
const bridgeRoutes = "  - {topic: copied/#, function: temp, also_broker: true}\n"

// bridgeLines make a Mosquitto a bridge to eproxy, by its defaults. The last subscription is that to ready.
func bridgeLines(version string) string {
	lines := fmt.Sprintf("allow_anonymous true\nlog_type all\nconnection up\naddress %s:1883\n%s", lab.NodeV4, version)
	for q := range 3 {
		lines += fmt.Sprintf("topic out%[1]d/# out %[1]d\ntopic in%[1]d/# in %[1]d\ntopic both%[1]d/# both %[1]d\n", q)
	}
	return lines + "topic # both 2 renamed/ far/\ntopic sensors/# out 2\ntopic copied/# both 2\ntopic ready in 1\n"
}

// inbox counts what a subscriber gets, as "topic payload QoS".
type inbox struct {
	mu   sync.Mutex
	got  map[string]int
	more chan struct{} // closed and replaced at every message
}

func newInbox() *inbox { return &inbox{got: make(map[string]int), more: make(chan struct{})} }

func (b *inbox) add(p *paho.Publish) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got[fmt.Sprintf("%s %s %d", p.Topic, p.Payload, p.QoS)]++
	close(b.more)
	b.more = make(chan struct{})
}

// wait waits for a message.
func (b *inbox) wait(t *testing.T, message string) {
	t.Helper()
	late := time.After(clientTimeout)
	for {
		b.mu.Lock()
		n, more := b.got[message], b.more
		b.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q has not come: %v", message, b.all())
		}
	}
}

// all are the messages that came, in alphabetical order, each as often as it came.
func (b *inbox) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for m, n := range b.got {
		out = append(out, slices.Repeat([]string{m}, n)...)
	}
	slices.Sort(out)
	return out
}

// side is a client of MQTT 5 on one side of a bridge, which is subscribed to everything.
type side struct {
	*paho.Client
	*inbox
}

func newSide(t *testing.T, l *lab.Lab, from lab.Role, address, id string, filters ...string) *side {
	t.Helper()
	conn, err := l.Dial(t.Context(), from, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &side{inbox: newInbox()}
	s.Client = paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { s.add(p.Packet); return true, nil },
	}})
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	if _, err := s.Connect(ctx, &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 60}); err != nil {
		t.Fatal(err)
	}
	for _, f := range filters {
		subscribe5(t, s.Client, f, 2)
	}
	return s
}

// bridged is a Mosquitto on the device's host that is a bridge to eproxy, and a client on each side.
type bridged struct {
	*system
	functions   *recorder
	bridge      *mosquittoBroker
	local, far  *side
	connections int // of the bridge's
}

func newBridged(t *testing.T, version string, relay bool) *bridged {
	t.Helper()
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	config := podConfig(routeConfig+bridgeRoutes, false)
	if relay {
		startMosquitto(t, l, 1884, "")
		config = relayTo(1884) + config
	}
	x := &bridged{system: start(t, l, "tc", config), functions: r}
	x.far = newSide(t, l, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"), "far", "#", "$SYS/broker/connection/#")
	publish5(t, x.far.Client, &paho.Publish{Topic: "ready", QoS: 1, Retain: true, Payload: []byte("steady")})
	x.bridge = startMosquittoOn(t, l, lab.Dev, 1900, bridgeLines(version))
	x.open(t)
	return x
}

// open connects a client to the bridge, and waits until that has all its subscriptions.
func (x *bridged) open(t *testing.T) {
	t.Helper()
	x.connections++
	x.local = newSide(t, x.lab, lab.Dev, "127.0.0.1:1900", "local", "#")
	x.local.wait(t, "ready steady 1")
}

// both publishes the same on one side and expects it on the other, and once at most on its own.
func cross(t *testing.T, from, to *side, topic, there, payload string, qos byte) {
	t.Helper()
	publish5(t, from.Client, &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)})
	to.wait(t, fmt.Sprintf("%s %s %d", there, payload, qos))
}

// TestBridge: a Mosquitto with its defaults is a bridge to eproxy, and through it to another Mosquitto: what it sends and what it
// subscribes to crosses once, at the QoS that it says, routed messages reach their function, nothing comes back, and
// what came while it was away waits for it.
func TestBridge(t *testing.T) {
	for _, relay := range []bool{false, true} {
		for name, line := range map[string]string{"3.1.1": "", "3.1": "bridge_protocol_version mqttv31\n", "5": "bridge_protocol_version mqttv50\n"} {
			t.Run(fmt.Sprintf("%s/relay=%v", name, relay), func(t *testing.T) { bridgeBothWays(t, newBridged(t, line, relay), relay, name != "5") })
		}
	}
}

func bridgeBothWays(t *testing.T, x *bridged, relay, lasts bool) {
	for q := range byte(3) {
		cross(t, x.local, x.far, fmt.Sprintf("out%d/x", q), fmt.Sprintf("out%d/x", q), "up", q)
		cross(t, x.far, x.local, fmt.Sprintf("in%d/x", q), fmt.Sprintf("in%d/x", q), "down", q)
		for _, topic := range []string{fmt.Sprintf("both%d/x", q), "copied/x"} {
			cross(t, x.local, x.far, topic, topic, fmt.Sprint("from local ", q), q)
			cross(t, x.far, x.local, topic, topic, fmt.Sprint("from far ", q), q)
		}
		cross(t, x.local, x.far, "renamed/x", "far/x", fmt.Sprint("up ", q), q)
		cross(t, x.far, x.local, "far/y", "renamed/y", fmt.Sprint("down ", q), q)
		publish5(t, x.local.Client, &paho.Publish{Topic: "sensors/b/temp", QoS: q, Payload: fmt.Appendf(nil, "routed %d", q)})
	}
	x.functions.wait(t, 9)
	cross(t, x.local, x.far, "both2/fence", "both2/fence", "up", 2) // what came back would have come before
	cross(t, x.far, x.local, "both2/fence", "both2/fence", "down", 2)
	x.check(t, relay)
	x.away(t, lasts)
	x.steady(t)
}

// check compares what came with what was to come.
func (x *bridged) check(t *testing.T, relay bool) {
	t.Helper()
	var local, far, functions []string
	for q := range 3 {
		for _, topic := range []string{fmt.Sprintf("both%d/x", q), "copied/x"} {
			for _, from := range []string{"local", "far"} {
				m := fmt.Sprintf("%s from %s %d %d", topic, from, q, q)
				local, far = append(local, m), append(far, m)
			}
		}
		routed := fmt.Sprintf("sensors/b/temp routed %d %d", q, q)
		local = append(local, fmt.Sprintf("out%d/x up %d", q, q), fmt.Sprintf("in%d/x down %d", q, q), fmt.Sprintf("renamed/x up %d %d", q, q), fmt.Sprintf("renamed/y down %d %d", q, q), routed)
		far = append(far, fmt.Sprintf("out%d/x up %d", q, q), fmt.Sprintf("in%d/x down %d", q, q), fmt.Sprintf("far/x up %d %d", q, q), fmt.Sprintf("far/y down %d %d", q, q))
		functions = append(functions, fmt.Sprint("routed ", q), fmt.Sprint("from local ", q), fmt.Sprint("from far ", q))
	}
	fence := []string{"both2/fence up 2", "both2/fence down 2", "ready steady 1"}
	local, far = append(local, fence...), append(far, fence...)
	if relay { // the server's own topics are its own otherwise
		far = append(far, fmt.Sprintf("$SYS/broker/connection/%s/state 1 1", x.bridgeName()))
	}
	var bodies []string
	got, _ := x.functions.all()
	for _, q := range got {
		bodies = append(bodies, q.body)
	}
	for name, c := range map[string]struct{ got, want []string }{"the bridge's side": {x.local.all(), local}, "the far side": {x.far.all(), far}, "the function": {bodies, functions}} {
		slices.Sort(c.want)
		slices.Sort(c.got)
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s got\n%q, want\n%q", name, c.got, c.want)
		}
	}
}

// bridgeName is the bridge's client identifier: its host's name and its connection's.
func (x *bridged) bridgeName() string {
	for line := range strings.Lines(x.bridge.run.Log()) {
		if before, _, ok := strings.Cut(line, " sending CONNECT"); ok {
			return before[strings.LastIndex(before, " ")+1:]
		}
	}
	return ""
}

// away kills the bridge. What comes for it meanwhile waits in its session, which that of an MQTT 5 bridge has no Session Expiry Interval for.
func (x *bridged) away(t *testing.T, lasts bool) {
	t.Helper()
	x.steady(t)
	x.bridge.run.Kill()
	for q := range byte(2) {
		publish5(t, x.far.Client, &paho.Publish{Topic: fmt.Sprintf("in%d/late", q+1), QoS: q + 1, Payload: []byte("kept")})
	}
	x.connections = 0
	x.bridge.start()
	x.open(t)
	for _, topic := range []string{"in1/late", "in2/late"} {
		if lasts {
			x.said(t, "'"+topic+"'") // its own clients came back later than it
		}
	}
	cross(t, x.local, x.far, "both1/again", "both1/again", "up", 1)
}

// said waits until the bridge's log has a text.
func (x *bridged) said(t *testing.T, text string) {
	t.Helper()
	late := time.After(clientTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(x.bridge.run.Log(), text) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the bridge has not got %s", text)
		}
	}
}

// steady checks that the bridge never had to connect again.
func (x *bridged) steady(t *testing.T) {
	t.Helper()
	if n := strings.Count(x.bridge.run.Log(), "sending CONNECT"); n != x.connections {
		t.Errorf("the bridge has connected %d times, want %d", n, x.connections)
	}
}
