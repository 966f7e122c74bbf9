package netns

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/certs"
	"eproxy/test/lib/lab"
)

// TestListenersUnderLoad: while devices publish, reloads open a listener and close it, a file with a mistake is refused whole, and a certificate is
// renewed. Nobody's connection but those of the closed listener ends, and no message is lost, repeated or misrouted.
func TestListenersUnderLoad(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l, r := newLab(t), newRecorder()
			r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				time.Sleep(5 * time.Millisecond) // so that devices publish for as long as this takes
				ok(n, w, q)
			}, nil)
			a := certs.New(t)
			pair := a.Issue("server", net.ParseIP(lab.NodeV4.String()))
			s := start(t, l, mode, podConfig(faultsConfig, false)+fmt.Sprintf("listeners:\n  - address: \":1883\"\n  - {address: \":8883\", tls: {cert: %s, key: %s}}\n", pair.Cert, pair.Key))
			devices := newFleet(l, seedOf(t), 5, 4000)
			for _, d := range devices {
				d.window = 4
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				fleet(t, devices, 4*time.Minute)
			}()
			stop, published := pahoTLS(t, l, a.Client(nil))
			more := func() { // both still publish
				n, m := acknowledged(devices), published()
				until(t, "messages go on", func() bool { return acknowledged(devices) >= n+100 && published() > m })
			}
			more()
			const first = "  - address: \":1883\"\n"
			s.reload(first, first+"  - address: \":1885\"\n", "msg=reloaded")
			if log := s.Log(); !strings.Contains(log, `listener \":1885\" added`) {
				t.Error("the log does not say that a listener was added")
			}
			if err := mosquitto(t, l, lab.NodeV4.String(), "new", "", "-p", "1885", "-t", "sensors/new/temp", "-q", "1", "-m", sealed("new", "temp", 0, 0)); err != nil {
				t.Errorf("at the listener that was added: %v", err)
			}
			late := dialAt(t, l, "1885")
			late.connect("late")
			more()
			refusedWhole(t, l, s, first)
			more()
			renewed(t, l, a, pair)
			more()
			s.reload("  - address: \":1885\"\n", "", "msg=reloaded")
			late.closed()
			if c, err := l.Dial(context.Background(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1885")); err == nil {
				_ = c.Close()
				t.Error("the listener that was removed still accepts")
			}
			more() // the devices have not ended before
			<-done
			if lost := stop(); lost > 0 {
				t.Errorf("the TLS client lost its connection %d times", lost)
			}
			got, _ := r.all()
			if duplicates, err := check(got, devices); err != nil || duplicates > 0 {
				t.Errorf("%d duplicates, %v", duplicates, err)
			}
			for _, d := range devices {
				if d.redials > 0 {
					t.Errorf("device %s lost its connection %d times", d.id, d.redials)
				}
			}
		})
	}
}

// dialAt connects from the device to another port than 1883.
func dialAt(t *testing.T, l *lab.Lab, port string) *rawConn {
	t.Helper()
	c, err := l.Dial(context.Background(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &rawConn{Conn: c, t: t}
}

// refusedWhole reloads a file with another listener, another route, and a mistake, whose line the log names; nothing of it counts.
func refusedWhole(t *testing.T, l *lab.Lab, s *system, after string) {
	t.Helper()
	before, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.reload(after, after+"  - address: \":1886\"\n    nonsense: 1\n", "reload refused")
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	line := 1 + strings.Count(string(text)[:strings.Index(string(text), "nonsense")], "\n")
	if want := fmt.Sprintf("eproxy.yaml:%d: listeners[1].nonsense: unknown key", line); !strings.Contains(s.Log(), want) {
		t.Errorf("the log does not have %q", want)
	}
	if c, err := l.Dial(context.Background(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1886")); err == nil {
		_ = c.Close()
		t.Error("a listener of the file that was refused accepts")
	}
	if err := os.WriteFile(s.file, before, 0o600); err != nil {
		t.Fatal(err)
	}
}

// renewed renews the certificate, which counts for the next connection.
func renewed(t *testing.T, l *lab.Lab, a *certs.Authority, pair certs.Pair) {
	t.Helper()
	serial := func() string {
		c, err := l.Dial(context.Background(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "8883"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		secure := tls.Client(c, a.Client(nil))
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		return secure.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	if p := a.Issue("server", net.ParseIP(lab.NodeV4.String())); p.Cert != pair.Cert || p.Key != pair.Key {
		t.Fatal("another file")
	}
	until(t, "the new certificate is shown", func() bool { return serial() != before })
}

// pahoTLS publishes over TLS until stop, which says how often the connection was lost; published is how many messages are acknowledged.
func pahoTLS(t *testing.T, l *lab.Lab, config *tls.Config) (stop func() int, published func() int64) {
	t.Helper()
	var n, lost atomic.Int64
	addr := net.JoinHostPort(lab.NodeV4.String(), "8883")
	o := mqtt.NewClientOptions().AddBroker("ssl://" + addr).SetClientID("secure").SetAutoReconnect(false)
	o.SetConnectionLostHandler(func(mqtt.Client, error) { lost.Add(1) })
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		c, err := l.Dial(context.Background(), lab.Dev, addr)
		if err != nil {
			return nil, err
		}
		return tls.Client(c, config), nil
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			if tok := c.Publish("sensors/secure/temp", 1, false, sealed("secure", "temp", i, 10)); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
				return
			}
			n.Add(1)
		}
	}()
	return func() int {
		close(end)
		<-ended
		defer c.Disconnect(250)
		return int(lost.Load())
	}, n.Load
}
