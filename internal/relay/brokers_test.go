package relay

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/mqtt"
)

func brokersAt(t *testing.T, addresses ...string) *backends {
	t.Helper()
	cfg := &config.Broker{}
	for _, a := range addresses {
		cfg.Servers = append(cfg.Servers, config.BrokerServer{Address: a})
	}
	b, err := newBackends(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addresses(all []*backend) (out []string) {
	for _, n := range all {
		out = append(out, n.Address)
	}
	return out
}

// TestOrder: clients are spread evenly; each has the same order wherever brokers stand in the configuration; one that is down
// is last for all, and moves only those clients that were its own.
func TestOrder(t *testing.T) {
	names := []string{"10.0.0.1:1883", "10.0.0.2:1883", "10.0.0.3:1883"}
	b := brokersAt(t, names...)
	slices.Reverse(names)
	other := brokersAt(t, names...)
	first, before := map[string]int{}, map[string][]string{}
	for n := range 3000 {
		client := fmt.Sprintf("device-%d", n)
		before[client] = addresses(b.order(client))
		first[before[client][0]]++
		if got := addresses(other.order(client)); !slices.Equal(got, before[client]) {
			t.Fatalf("%s: %v, in another configuration %v", client, before[client], got)
		}
	}
	for _, a := range names {
		if first[a] < 800 || first[a] > 1200 {
			t.Errorf("%s is the first for %d of 3000 clients", a, first[a])
		}
	}
	b.all[0].down.Store(true)
	for client, was := range before {
		up := slices.DeleteFunc(slices.Clone(was), func(a string) bool { return a == b.all[0].Address })
		if got := addresses(b.order(client)); !slices.Equal(got, append(up, b.all[0].Address)) {
			t.Fatalf("%s: %v became %v", client, was, got)
		}
	}
}

// TestHungUp: a broker that ends the connection instead of answering CONNECT, by FIN or RST, refuses the client and is not
// down; one that answers with something else is no broker.
func TestHungUp(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*net.TCPConn)
		refuse bool
	}{
		"FIN":   {func(*net.TCPConn) {}, true},
		"RST":   {func(c *net.TCPConn) { _ = c.SetLinger(0) }, true},
		"other": {func(c *net.TCPConn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, false},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			peer, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 64)
			_, _ = peer.Read(b)
			c.answer(peer.(*net.TCPConn))
			_ = peer.Close()
		}()
		upstream, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		asking := &conn{decoder: mqtt.Decoder{MaxPacket: 1 << 16}}
		asking.upstream.write = upstream.Write
		w, err := asking.ask(upstream, []byte{0x10, 0})
		if refused := err == nil && w.packet == nil; refused != c.refuse {
			t.Errorf("%s: %v, %v", name, w, err)
		}
		<-ended
		_ = upstream.Close()
		_ = l.Close()
	}
}
