package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// relayTo begins a configuration that relays to brokers on the node.
func relayTo(ports ...int) string {
	urls := ""
	for _, p := range ports {
		urls += fmt.Sprintf("tcp://127.0.0.1:%d, ", p)
	}
	return "broker: {mode: relay, urls: [" + urls + "]}\n"
}

// mosquittoBroker is a broker for nobody but the host that it runs on.
type mosquittoBroker struct {
	t    *testing.T
	lab  *lab.Lab
	host lab.Role
	conf string
	port int
	run  *lab.Process
}

// startMosquitto starts a broker on the node, with more lines of configuration, until the test ends.
func startMosquitto(t *testing.T, l *lab.Lab, port int, lines string) *mosquittoBroker {
	t.Helper()
	return startMosquittoOn(t, l, lab.Node, port, lines)
}

// startMosquittoOn is startMosquitto on another host.
func startMosquittoOn(t *testing.T, l *lab.Lab, host lab.Role, port int, lines string) *mosquittoBroker {
	t.Helper()
	if lines == "" {
		lines = "allow_anonymous true\n"
	}
	b := &mosquittoBroker{t: t, lab: l, host: host, port: port, conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	text := fmt.Sprintf("user root\nlistener %d 127.0.0.1\n%slog_dest stderr\n", port, lines)
	if err := os.WriteFile(b.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(func() {
		b.run.Kill()
		if t.Failed() {
			t.Logf("mosquitto's log:\n%s", b.run.Log())
		}
	})
	return b
}

// start starts it, also again, and waits until it accepts connections.
func (b *mosquittoBroker) start() {
	b.t.Helper()
	p, err := b.lab.StartLogged(b.host, lab.Command(context.Background(), "mosquitto", "-c", b.conf))
	if err != nil {
		b.t.Fatal(err)
	}
	b.run = p
	late := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := b.lab.Dial(context.Background(), b.host, net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)))
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-p.Done():
			b.t.Fatalf("mosquitto ended: %s", p.Log())
		case <-late:
			b.t.Fatalf("mosquitto does not listen: %s", p.Log())
		}
	}
}
