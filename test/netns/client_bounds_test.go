package netns

import (
	"fmt"
	"strings"
	"testing"
)

// TestStrangersHoldNoState: a connection has an entry in the maps from the
// moment on that the server has accepted its client, and not before.
func TestStrangersHoldNoState(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false)+
				"auth: {users: [{username: dev, password_hash: $2a$04$0123456789012345678901uTQ8cE9ZKvK6oD1Gm8bRkOUnsxkYyqm}]}\n")
			for range 20 {
				rawDial(t, l) // and says nothing
			}
			c := rawDial(t, l)
			if err := c.tryConnect("anonymous"); err == nil {
				t.Fatal("a client without a password was let in")
			}
			if n := s.counts()["tc_device_in/listener_syn"]; n < 21 {
				t.Errorf("the programs saw %d SYNs of 21: the test tests nothing", n)
			}
			if rows := s.mapsctl("flows"); len(rows) != 0 {
				t.Errorf("entries of clients that were not let in: %v", rows)
			}
		})
	}
}

// TestMoreClientsThanEntries: clients beyond limits.connections find no entry in
// the maps; the fallback serves them.
func TestMoreClientsThanEntries(t *testing.T) {
	const entries, clients = 2, 6
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false)+fmt.Sprintf("limits: {connections: %d}\n", entries))
			for i := range clients {
				id := fmt.Sprintf("c%d", i)
				rawConnect(t, l, id).publish("sensors/"+id+"/temp", 1, id)
			}
			var bodies []string
			for _, q := range r.wait(t, clients) {
				bodies = append(bodies, q.body)
			}
			if got := strings.Join(bodies, " "); got != "c0 c1 c2 c3 c4 c5" {
				t.Errorf("functions got %s", got)
			}
			if taken, _ := share(nil, s.counts()); taken != entries {
				t.Errorf("the kernel took %d messages, want those of %d clients: %v", taken, entries, s.counts())
			}
			if rows := s.mapsctl("flows"); len(rows) != entries {
				t.Errorf("%d entries: %v", len(rows), rows)
			}
		})
	}
}
