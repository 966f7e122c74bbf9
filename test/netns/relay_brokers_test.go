package netns

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"eproxy/test/lib/certs"
	"eproxy/test/lib/lab"
)

// several are brokers behind one address, by their addresses, and who is connected.
type several struct {
	*system
	functions *recorder
	brokers   map[string]*mosquittoBroker
	clients   map[string]*ending // by client identifier
}

// ending is a client that notes when its connection ends.
type ending struct {
	*paho.Client
	ended chan struct{}
}

const severalClients = 12

func newSeveral(t *testing.T) *several {
	t.Helper()
	l := newLab(t)
	x := &several{functions: newRecorder(), brokers: map[string]*mosquittoBroker{}, clients: map[string]*ending{}}
	x.functions.serveGo(t, l, false, ok, nil)
	ports := []int{1884, 1885, 1886}
	for _, p := range ports {
		x.brokers[fmt.Sprintf("127.0.0.1:%d", p)] = startMosquitto(t, l, p, "")
	}
	x.system = start(t, l, "tc", relayTo(ports...)+metricsConfig+podConfig(routeConfig, false))
	return x
}

// enter connects a client, or again, and publishes a message to the function.
func (x *several) enter(t *testing.T, id string) {
	t.Helper()
	x.clients[id] = newEnding(t, x.lab, id)
	publish5(t, x.clients[id].Client, &paho.Publish{Topic: "sensors/" + id + "/temp", QoS: 1, Payload: []byte(id)})
}

// newEnding connects a client of MQTT 5.
func newEnding(t *testing.T, l *lab.Lab, id string) *ending {
	t.Helper()
	conn, err := l.Dial(t.Context(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	c := &ending{ended: make(chan struct{})}
	end := sync.OnceFunc(func() { close(c.ended) })
	c.Client = paho.NewClient(paho.ClientConfig{Conn: conn,
		OnServerDisconnect: func(*paho.Disconnect) { end() },
		OnClientError:      func(error) { end() }})
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 60}); err != nil {
		t.Fatal(err)
	}
	return c
}

// where says which broker each client is at, by the brokers' own logs, and holds what mapsctl and the metrics say against it.
func (x *several) where(t *testing.T) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, r := range x.mapsctl("clients") {
		said[r["client"].(string)] = r["broker"].(string)
	}
	at := map[string]string{}
	for address, b := range x.brokers {
		for line := range strings.Lines(b.run.Log()) {
			if _, who, ok := strings.Cut(line, " as c"); ok {
				id, _, _ := strings.Cut("c"+who, " ")
				if said[id] == address { // it may have been here before
					at[id] = address
				}
			}
		}
	}
	if !maps.Equal(at, said) {
		t.Fatalf("the brokers' logs say %v, mapsctl %v", at, said)
	}
	count, s := map[string]int{}, scrapeSeries(t, x.lab)
	for _, address := range at {
		count[address]++
	}
	for address := range x.brokers {
		if n := s[fmt.Sprintf("eproxy_broker_clients{broker=%q}", address)]; int(n) != count[address] {
			t.Errorf("metrics: %v clients at %s, want %d", n, address, count[address])
		}
	}
	return at
}

// up waits until the metrics say of a broker whether it is up.
func (x *several) up(t *testing.T, address string, want float64) {
	t.Helper()
	late := time.After(clientTimeout)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for scrapeSeries(t, x.lab)[fmt.Sprintf("eproxy_broker_up{broker=%q}", address)] != want {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: eproxy_broker_up is never %v", address, want)
		}
	}
}

// TestRelayedToSeveral: a client goes to the same one of several brokers always. When that ends, its clients alone are disconnected, go to
// another one each with their next connection, and back with the one after it is there again.
func TestRelayedToSeveral(t *testing.T) {
	x := newSeveral(t)
	for i := range severalClients {
		x.enter(t, fmt.Sprint("c", i))
	}
	home := x.where(t)
	used := slices.Compact(slices.Sorted(maps.Values(home)))
	if len(used) < 2 {
		t.Fatalf("all clients are at %v", used)
	}
	gone := used[0]
	x.brokers[gone].run.Kill()
	for id, c := range x.clients {
		if home[id] == gone {
			<-c.ended // or the test's own deadline
			x.enter(t, id)
		}
	}
	x.up(t, gone, 0)
	for id, address := range x.where(t) {
		switch {
		case address == gone:
			t.Errorf("%s is at the broker that has ended", id)
		case home[id] != gone && address != home[id]:
			t.Errorf("%s has moved", id)
		}
	}
	x.stay(t, home, gone)
	x.brokers[gone].start()
	x.up(t, gone, 1)
	for id := range home {
		if err := x.clients[id].Disconnect(&paho.Disconnect{}); err != nil {
			t.Error(err)
		}
		x.enter(t, id)
	}
	if again := x.where(t); !maps.Equal(again, home) {
		t.Errorf("clients are at %v, were at %v", again, home)
	}
}

// stay checks that clients of other brokers are still on the connections that they had.
func (x *several) stay(t *testing.T, home map[string]string, gone string) {
	t.Helper()
	for id, c := range x.clients {
		if home[id] == gone {
			continue
		}
		select {
		case <-c.ended:
			t.Errorf("%s was disconnected, though its broker is there", id)
		default:
			publish5(t, c.Client, &paho.Publish{Topic: "plain", QoS: 1, Payload: []byte(id)})
		}
	}
}

// TestRelayedInTLS: the way to the broker is encrypted, and the broker's certificate verified: by who has issued it, and its name.
func TestRelayedInTLS(t *testing.T) {
	ours, other := certs.New(t), certs.New(t)
	for name, c := range map[string]struct {
		issuer *certs.Authority
		host   string
		want   string // what the log says; empty: it is let in
	}{
		"verified":     {ours, "127.0.0.1", ""},
		"other issuer": {other, "127.0.0.1", "certificate signed by unknown authority"},
		"other name":   {ours, "127.0.0.9", "certificate is valid for 127.0.0.1, ::1, not 127.0.0.9"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			server := c.issuer.Issue("server")
			startMosquitto(t, l, 8884, "allow_anonymous true\n"+fmt.Sprintf("listener 8885\nallow_anonymous true\ncafile %s\ncertfile %s\nkeyfile %s\n", c.issuer.CA, server.Cert, server.Key))
			config := fmt.Sprintf("broker: {mode: relay, url: \"tls://%s:8885\", ca: %s}\n", c.host, ours.CA)
			s := start(t, l, "tc", config+podConfig(routeConfig, false))
			if c.want == "" {
				x := &relayed{system: s, functions: r}
				cl, _, in := x.connect(t, &paho.Connect{ClientID: "c", CleanStart: true, KeepAlive: 60})
				subscribe5(t, cl, "plain", 1)
				publish5(t, cl, &paho.Publish{Topic: "plain", QoS: 1, Payload: []byte("through")})
				expectPayload(t, in, "through")
				publish5(t, cl, &paho.Publish{Topic: "sensors/c/temp", QoS: 1, Payload: []byte("routed")})
				r.wait(t, 1)
				return
			}
			for range 3 {
				if err := mosquitto(t, l, lab.NodeV4.String(), "c", "", "-t", "plain", "-q", "1", "-m", "m"); err == nil {
					t.Error("a broker that cannot be verified is used")
				}
			}
			var said []string
			for line := range strings.Lines(s.Log()) {
				if strings.Contains(line, c.want) && !strings.Contains(line, "level=DEBUG") {
					said = append(said, line)
				}
			}
			if len(said) != 1 || !strings.Contains(said[0], c.host+":8885") {
				t.Errorf("the log says %q, want one line", said)
			}
		})
	}
}
