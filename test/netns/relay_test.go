package netns

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/internal/mqtt/samples"
	"eproxy/test/lib/lab"
)

// TestRelayedClients: every client publishes through the relay to a function, and the kernel takes what it takes of clients
// of the embedded server.
func TestRelayedClients(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			srv := servers()[0]
			srv.serve(t, l, r, false)
			startMosquitto(t, l, 1884, "")
			s := start(t, l, mode, relayTo(1884)+podConfig(routeConfig, false))
			for _, c := range clients() {
				t.Run(c.name, func(t *testing.T) { oneClient(t, s, r, c, srv, false) })
			}
		})
	}
}

// relayed is a lab with a broker, a function, and eproxy between.
type relayed struct {
	*system
	functions *recorder
	broker    *mosquittoBroker
}

func newRelayed(t *testing.T, mode, lines, routes string) *relayed {
	t.Helper()
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	b := startMosquitto(t, l, 1884, lines)
	return &relayed{start(t, l, mode, relayTo(1884)+podConfig(routeConfig+routes, false)), r, b}
}

// connect connects a client of MQTT 5; what it gets goes to the channel.
func (x *relayed) connect(t *testing.T, c *paho.Connect) (*paho.Client, *paho.Connack, <-chan *paho.Publish) {
	t.Helper()
	in := make(chan *paho.Publish, 16)
	conn, err := x.lab.Dial(t.Context(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	cl := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { in <- p.Packet; return true, nil },
	}})
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	ack, err := cl.Connect(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return cl, ack, in
}

func expectPayload(t *testing.T, in <-chan *paho.Publish, want string) {
	t.Helper()
	select {
	case p := <-in:
		if string(p.Payload) != want {
			t.Errorf("got %q, want %q", p.Payload, want)
		}
	case <-time.After(clientTimeout):
		t.Fatalf("%q has not come", want)
	}
}

func publish5(t *testing.T, c *paho.Client, p *paho.Publish) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	if _, err := c.Publish(ctx, p); err != nil {
		t.Fatalf("publish to %s: %v", p.Topic, err)
	}
}

func subscribe5(t *testing.T, c *paho.Client, filter string, qos byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}}); err != nil {
		t.Fatal(err)
	}
}

// TestRelayedBroker: what is not routed is the broker's: subscriptions, retained messages, sessions that go on, wills; what is
// routed never gets there, unless subscribers get it, too.
func TestRelayedBroker(t *testing.T) {
	const both = "  - {topic: both/#, function: temp, also_broker: true}\n"
	x := newRelayed(t, "tc", "", both)
	expiry := uint32(3600)
	first, _, in := x.connect(t, &paho.Connect{ClientID: "sub", CleanStart: true, KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}})
	subscribe5(t, first, "#", 2)
	pub, _, _ := x.connect(t, &paho.Connect{ClientID: "pub", CleanStart: true, KeepAlive: 60})
	for q := range byte(3) {
		publish5(t, pub, &paho.Publish{Topic: "sensors/pub/temp", QoS: q, Payload: fmt.Appendf(nil, "routed %d", q)})
		publish5(t, pub, &paho.Publish{Topic: "both/x", QoS: q, Payload: fmt.Appendf(nil, "both %d", q)})
		expectPayload(t, in, fmt.Sprintf("both %d", q))
		publish5(t, pub, &paho.Publish{Topic: "plain", QoS: q, Payload: fmt.Appendf(nil, "plain %d", q)})
		expectPayload(t, in, fmt.Sprintf("plain %d", q))
	}
	if got := x.functions.wait(t, 6); len(got) != 6 {
		t.Errorf("the function got %d requests", len(got))
	}
	// What comes while the subscriber is away waits for it in the broker's session.
	if err := first.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	publish5(t, pub, &paho.Publish{Topic: "plain", QoS: 1, Retain: true, Payload: []byte("later")})
	again, ack, in := x.connect(t, &paho.Connect{ClientID: "sub", KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}})
	if !ack.SessionPresent {
		t.Error("the session has not gone on")
	}
	expectPayload(t, in, "later")
	// Retained messages are the broker's.
	late, _, kept := x.connect(t, &paho.Connect{ClientID: "late", CleanStart: true, KeepAlive: 60})
	subscribe5(t, late, "plain", 1)
	expectPayload(t, kept, "later")
	// A will that is not routed is the broker's, one that is is the function's.
	for _, topic := range []string{"plain", "sensors/dying/temp"} {
		conn, err := x.lab.Dial(t.Context(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
		if err != nil {
			t.Fatal(err)
		}
		dying := paho.NewClient(paho.ClientConfig{Conn: conn})
		if _, err := dying.Connect(t.Context(), &paho.Connect{ClientID: "dying", CleanStart: true, KeepAlive: 60,
			WillMessage: &paho.WillMessage{Topic: topic, QoS: 1, Payload: []byte("will " + topic)}}); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	expectPayload(t, in, "will plain")
	if got := x.functions.wait(t, 7); got[6].body != "will sensors/dying/temp" {
		t.Errorf("the function got %q", got[6].body)
	}
	_ = again.Disconnect(&paho.Disconnect{})
	select {
	case p := <-in:
		t.Errorf("the subscriber got %q as well", p.Payload)
	default:
	}
}

// TestRelayedRefusals: what the broker refuses, it refuses; when it ends, its clients do, and come back with it.
func TestRelayedRefusals(t *testing.T) {
	passwords := filepath.Join(t.TempDir(), "passwd")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "dev", "right").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	x := newRelayed(t, "tc", "allow_anonymous false\npassword_file "+passwords+"\n", "")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		args := []string{"-V", version, "-u", "dev", "-t", "sensors/a/temp", "-q", "1", "-m", "m", "-P"}
		if err := mosquitto(t, x.lab, lab.NodeV4.String(), "a", "", append(args, "right")...); err != nil {
			t.Errorf("%s: %v", version, err)
		}
		if err := mosquitto(t, x.lab, lab.NodeV4.String(), "a", "", append(args, "wrong")...); err == nil {
			t.Errorf("%s: a wrong password is accepted", version)
		}
	}
	x.functions.wait(t, 2)
	ended := make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) })
	conn, err := x.lab.Dial(t.Context(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, OnServerDisconnect: func(*paho.Disconnect) { end() },
		OnClientError: func(error) { end() }})
	if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: "b", CleanStart: true, KeepAlive: 60, UsernameFlag: true, Username: "dev",
		PasswordFlag: true, Password: []byte("right")}); err != nil {
		t.Fatal(err)
	}
	x.broker.run.Kill()
	select {
	case <-ended:
	case <-time.After(clientTimeout):
		t.Fatal("the client is still connected, though its broker has gone")
	}
	args := []string{"-u", "dev", "-P", "right", "-t", "sensors/a/temp", "-q", "1", "-m", "again"}
	if err := mosquitto(t, x.lab, lab.NodeV4.String(), "a", "", args...); err == nil {
		t.Error("a client is let in without a broker")
	}
	x.broker.start()
	if err := mosquitto(t, x.lab, lab.NodeV4.String(), "a", "", args...); err != nil {
		t.Error(err)
	}
	x.functions.wait(t, 3)
}

// TestRelayedKeepAlive: a client that publishes nothing but what the kernel takes is not silent to its broker, which would
// end it after one and a half times its keep-alive.
func TestRelayedKeepAlive(t *testing.T) {
	x := newRelayed(t, "tc", "", "")
	x.warm(t, "sensors/warm/temp", 8)
	c := rawDial(t, x.lab)
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	const keepAlive = 4 * time.Second
	connect := samples.Packet(0x10, samples.String("MQTT"), "\x04\x02\x00\x04", samples.String("quiet"))
	if _, err := c.Write([]byte(connect)); err != nil {
		t.Fatal(err)
	}
	c.read([]byte("\x20\x02\x00\x00"))
	before := x.counts()
	tick := time.NewTicker(keepAlive / 8)
	defer tick.Stop()
	n := 0
	for began := time.Now(); time.Since(began) < 3*keepAlive; n++ {
		<-tick.C
		c.publish("sensors/quiet/temp", uint16(n+1), fmt.Sprint(n))
	}
	if taken, _ := share(before, x.counts()); taken*2 < n {
		t.Errorf("the kernel took %d of %d messages", taken, n)
	}
}
