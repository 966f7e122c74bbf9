package mochi

import (
	"io"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
)

// as is CONNECT of client id c, with this user name as its password, too; clean as
// Clean Session says.
func as(user string, clean bool) string {
	flags := byte(0xc0)
	if clean {
		flags |= 2
	}
	return samples.Connect(4, flags, samples.String("c"), samples.String(user), samples.String(user))
}

// TestInheritedMessagesNeedTheRight: who takes over a session gets neither its
// messages nor its subscriptions, if he may not receive them.
func TestInheritedMessagesNeedTheRight(t *testing.T) {
	eve := user("eve", "eve")
	eve.Subscribe = []string{"none"}
	s := newStage(t, say("ok"), nil, config.Auth{Users: []config.User{user("alice", "alice"), eve}})
	alice := s.dial()
	write(t, alice, []byte(as("alice", false)+samples.Packet(0x82, "\x00\x01", samples.String("secret"), "\x01")+"\xe0\x00")...)
	want(t, alice, 0x20, 2, 0, 0, 0x90, 3, 0, 1, 1)
	readAll(t, alice)
	other := s.dial()
	publish := samples.Packet(0x32, samples.String("secret"), "\x00\x01", "for alice")
	write(t, other, []byte(samples.Connect(4, 0xc2, samples.String("o"), samples.String("alice"), samples.String("alice"))+publish)...)
	want(t, other, 0x20, 2, 0, 0, 0x40, 2, 0, 1)
	c := s.dial()
	write(t, c, []byte(as("eve", false)+"\xc0\x00")...)
	want(t, c, 0x20, 2, 1, 0, 0xd0, 0) // and nothing in between
	write(t, other, []byte(publish)...)
	want(t, other, 0x40, 2, 0, 1)
	write(t, c, 0xc0, 0)
	want(t, c, 0xd0, 0)
}

// TestResponsesStayInTheirPlaces: a response that is routed to a function, too,
// counts among its client's messages in flight until that one has answered.
func TestResponsesStayInTheirPlaces(t *testing.T) {
	const places = 16
	var mu sync.Mutex
	published, early := 0, false
	release := make(chan struct{})
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Mqtt-Qos") == "" { // a response, of QoS 0
			<-release
			return
		}
		mu.Lock()
		published++
		select {
		case <-release:
		default:
			early = early || published > places
		}
		mu.Unlock()
		_, _ = io.WriteString(w, "x")
	}, nil, anonymous)
	s.cfg.Functions[0].Timeout, s.cfg.Functions[0].Concurrency = time.Minute, 64
	s.pool.Reload(s.cfg.Functions)
	conn := s.dial()
	write(t, conn, []byte(samples.Hello(5))...)
	packet(t, conn)
	for i := range 3 * places {
		write(t, conn, []byte(samples.Packet(0x32, samples.String("in/x"), string([]byte{0, byte(i + 1)}), samples.Properties("\x08"+samples.String("in/r")), "p"))...)
	}
	for range places {
		packet(t, conn)
	}
	close(release)
	for range 2 * places {
		packet(t, conn)
	}
	mu.Lock()
	defer mu.Unlock()
	if early {
		t.Errorf("more than %d messages of one client were under way", places)
	}
}

// TestDeniedAddressWithZone: a link-local address is denied whatever its zone.
func TestDeniedAddressWithZone(t *testing.T) {
	s := newStage(t, say("ok"), nil, config.Auth{AllowAnonymous: true, Deny: config.Deny{Addresses: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}}})
	for a, want := range map[string]bool{"fe80::1%lo": false, "fe80::1": false, "fd00::1": true, "::ffff:10.0.0.1": true} {
		if got := s.server.Admit(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s admitted: %v", a, got)
		}
		id := broker.Connect{ClientID: "c", Version: 4, Remote: netip.AddrPortFrom(netip.MustParseAddr(a), 1)}
		if _, code := s.server.Authenticate(&id); (code == broker.CodeSuccess) != want {
			t.Errorf("%s: reason code %#x", a, code)
		}
	}
}
