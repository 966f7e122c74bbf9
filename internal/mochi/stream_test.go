package mochi

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
	"eproxy/test/lib/certs"
)

// kind is a listener whose connections begin with something else than MQTT packets.
type kind struct {
	name     string
	listener config.Listener
	begin    func(t *testing.T, c net.Conn) net.Conn
}

// wsConn is a WebSocket as a net.Conn.
type wsConn struct {
	*websocket.Conn
	rest io.Reader
}

func (w *wsConn) Read(p []byte) (int, error) {
	for {
		if w.rest == nil {
			_, r, err := w.NextReader()
			if err != nil {
				return 0, err
			}
			w.rest = r
		}
		n, err := w.rest.Read(p)
		if err == nil || err != io.EOF {
			return n, err
		}
		if w.rest = nil; n > 0 {
			return n, nil
		}
	}
}

func (w *wsConn) Write(p []byte) (int, error) {
	return len(p), w.WriteMessage(websocket.BinaryMessage, p)
}

func (w *wsConn) SetDeadline(d time.Time) error {
	return w.NetConn().SetDeadline(d)
}

const proxied = "PROXY TCP4 192.0.2.9 10.0.0.1 4711 1883\r\n"

// kinds are all that a listener can be.
func kinds(t *testing.T) []kind {
	a := certs.New(t)
	server := a.Issue("server")
	files := &config.TLS{Cert: server.Cert, Key: server.Key}
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	encrypt := func(_ *testing.T, c net.Conn) net.Conn { return tls.Client(c, a.Client(nil)) }
	frame := func(t *testing.T, c net.Conn) net.Conn {
		t.Helper()
		d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return c, nil }, Subprotocols: []string{"mqtt"}}
		ws, r, err := d.Dial("ws://broker/mqtt", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		return &wsConn{Conn: ws}
	}
	name := func(t *testing.T, c net.Conn) net.Conn {
		t.Helper()
		write(t, c, []byte(proxied)...)
		return c
	}
	return []kind{
		{"TLS", config.Listener{TLS: files}, encrypt},
		{"WebSocket", config.Listener{Websocket: true}, frame},
		{"WebSocket in TLS", config.Listener{Websocket: true, TLS: files}, func(t *testing.T, c net.Conn) net.Conn { return frame(t, encrypt(t, c)) }},
		{"behind a proxy", config.Listener{Proxies: proxies}, name},
		{"all", config.Listener{Proxies: proxies, Websocket: true, TLS: files}, func(t *testing.T, c net.Conn) net.Conn { return frame(t, encrypt(t, name(t, c))) }},
	}
}

// listening replaces the stage's listener.
func listening(l config.Listener) func(*broker.Options) {
	l.Address = "127.0.0.1:0"
	return func(o *broker.Options) { o.Config.Listeners = []config.Listener{l} }
}

// impatient has the server wait for clients no longer than d.
func impatient(d time.Duration) func(*broker.Options) {
	return func(o *broker.Options) {
		front := o.Frontend
		o.Frontend = func(b *broker.Server) (broker.Frontend, error) {
			f, err := front(b)
			if err == nil {
				f.(*Server).begin, f.(*Server).stall = d, d
			}
			return f, err
		}
	}
}

// TestKinds: on every kind of listener messages reach their functions and subscribers, many of them at
// once too, and a client that violates the specification is told why.
func TestKinds(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			s := newStage(t, say("ok"), nil, anonymous, listening(k.listener))
			c := k.begin(t, s.dial())
			connect(t, c, 0)
			write(t, c, 0x82, 6, 0, 1, 0, 1, 'o', 0)
			want(t, c, 0x90, 3, 0, 1, 0)
			write(t, c, 0x30, 5, 0, 1, 'o', 'h', 'i') // to itself
			want(t, c, 0x30, 5, 0, 1, 'o', 'h', 'i')
			const many = 200
			var burst []byte
			for i := range many {
				burst = append(burst, 0x32, 9, 0, 4, 'i', 'n', '/', 'x', 0, byte(i+1), 'A')
			}
			go func() { _, _ = c.Write(burst) }()
			var acks [256]bool
			for range many {
				var ack [4]byte
				if _, err := io.ReadFull(c, ack[:]); err != nil || ack[0] != 0x40 || acks[ack[3]] {
					t.Fatalf("% x, %v", ack, err)
				}
				acks[ack[3]] = true
			}
			if got := len(strings.ReplaceAll(s.payloads(), ",", "")); got != many {
				t.Errorf("the function got %d messages, want %d", got, many)
			}
			write(t, c, 0xf3, 0)
			if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("after a violation: % x, %v", b, err)
			}
		})
	}
}

// TestGoodbye: the last packet to a client of MQTT 5 is followed by what says that nothing follows: a
// connection that was cut off looks different.
func TestGoodbye(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			s := newStage(t, say("ok"), nil, anonymous, listening(k.listener))
			c := k.begin(t, s.dial())
			write(t, c, []byte(samples.Hello(5))...)
			head := make([]byte, 2)
			if _, err := io.ReadFull(c, head); err != nil || head[0] != 0x20 {
				t.Fatalf("% x, %v", head, err)
			}
			if _, err := io.CopyN(io.Discard, c, int64(head[1])); err != nil {
				t.Fatal(err)
			}
			go s.server.Close()
			b, err := io.ReadAll(c)
			if len(b) == 0 || b[0] != 0xe0 || err != nil && !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("% x, %v", b, err)
			}
		})
	}
}

// TestWhoIsGrafted: the kernel path gets connections that carry MQTT packets themselves, with the bytes of a
// PROXY header counted; what is encrypted or framed it could not read.
func TestWhoIsGrafted(t *testing.T) {
	for _, k := range kinds(t) {
		f := &fakeGraft{closed: make(chan struct{})}
		s := newStage(t, say("ok"), f, anonymous, listening(k.listener))
		c := k.begin(t, s.dial())
		connect(t, c, 0)
		if armed := f.info.Conn != nil; armed != k.listener.Plain() {
			t.Errorf("%s: armed %v", k.name, armed)
		} else if want := uint64(len(proxied) + 15); armed && (f.info.Read != want || !f.info.AtBoundary) {
			t.Errorf("%s: %d bytes read, want %d; at a boundary %v", k.name, f.info.Read, want, f.info.AtBoundary)
		}
	}
}

// TestProxied: who is kept out is kept out behind a proxy, too, and clients are known by their own address; what
// comes from elsewhere than a proxy is refused.
func TestProxied(t *testing.T) {
	auth := config.Auth{AllowAnonymous: true, Deny: config.Deny{Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")}}}
	s := newStage(t, say("ok"), nil, auth, listening(config.Listener{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}))
	c := s.dial()
	write(t, c, []byte(proxied)...)
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("denied: % x, %v", b, err)
	}
	s.waitFor(func() bool { return s.counts.of("denied_address") == 1 }, "not counted as denied")
	c = s.dial()
	write(t, c, []byte(strings.Replace(proxied, "192.0.2.9", "192.0.2.8", 1))...)
	connect(t, c, 0)
	if got := s.server.Clients(); len(got) != 1 || !strings.HasPrefix(got[0].Remote, "192.0.2.8:4711") {
		t.Errorf("clients %+v", got)
	}
	c = s.dial()
	write(t, c, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'c')
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("without a header: % x, %v", b, err)
	}
	s.waitFor(func() bool { return s.counts.of("proxy_header") == 1 }, "not counted as one without a header")
	far := newStage(t, say("ok"), nil, anonymous, listening(config.Listener{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}))
	_, _ = io.ReadAll(far.dial())
	far.waitFor(func() bool { return far.counts.of("denied_proxy") == 1 }, "not counted as no proxy")
}

// TestCertificateIsTheAccount: a client whose certificate names a user has that user's rights, whatever name it
// gives; one whose certificate names nobody is refused, and nobody logs in with a password to an account without.
func TestCertificateIsTheAccount(t *testing.T) {
	a := certs.New(t)
	server, device, other := a.Issue("server"), a.Issue("device"), a.Issue("other")
	auth := config.Auth{Users: []config.User{{Username: "device", Publish: []string{"in/%u/#"}}, user("u", "p")}}
	l := config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, Username: config.UsernameCommonName}}
	s := newStage(t, say("ok"), nil, auth, listening(l))
	as := func(p certs.Pair, packet string, code byte) net.Conn {
		t.Helper()
		c := tls.Client(s.dial(), a.Client(&p))
		write(t, c, []byte(packet)...)
		want(t, c, 0x20, 2, 0, code)
		return c
	}
	c := as(device, login(4), 0) // as u, with its password
	write(t, c, 0x32, 16, 0, 11, 'i', 'n', '/', 'd', 'e', 'v', 'i', 'c', 'e', '/', 'x', 0, 1, 'A')
	want(t, c, 0x40, 2, 0, 1)
	write(t, c, 0x32, 9, 0, 4, 'i', 'n', '/', 'x', 0, 2, 'B')
	_, _ = io.ReadAll(c)
	if got := s.payloads(); got != "A" {
		t.Errorf("the function got %s, want A", got)
	}
	as(other, login(4), 4)

	plain := newStage(t, say("ok"), nil, auth)
	d := plain.dial()
	write(t, d, []byte(samples.Connect(4, 0xc2, samples.String("c"), samples.String("device"), samples.String("")))...)
	want(t, d, 0x20, 2, 0, 4)
}

// TestRevokedCertificateEndsItsSession: whose certificate is revoked, or whose authority is one no more, is disconnected at once;
// others go on, also when a list is out of date.
func TestRevokedCertificateEndsItsSession(t *testing.T) {
	a, others := certs.New(t), certs.New(t)
	server, good, bad := a.Issue("server"), a.Issue("good"), a.Issue("bad")
	later := time.Now().Add(time.Hour)
	l := config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: a.Revoke(later), Username: config.UsernameCommonName}}
	s := newStage(t, say("ok"), nil, config.Auth{Users: []config.User{{Username: "good"}, {Username: "bad"}}}, listening(l))
	open := func(p certs.Pair, id string) net.Conn {
		t.Helper()
		c := tls.Client(s.dial(), a.Client(&p))
		write(t, c, []byte(samples.Connect(5, 2, samples.Properties(), samples.String(id)))...)
		packet(t, c)
		return c
	}
	stays, goes := open(good, "good"), open(bad, "bad")
	a.Revoke(later, bad)
	if p := packet(t, goes); p[0] != 0xe0 || p[2] != 0x87 {
		t.Errorf("got % x, want DISCONNECT with 0x87", p)
	}
	write(t, stays, 0xc0, 0)
	want(t, stays, 0xd0, 0)
	a.Revoke(time.Now().Add(-time.Minute), bad)
	silent := tls.Client(s.dial(), a.Client(&good)) // has said nothing yet, and never will
	_ = silent.Handshake()
	write(t, stays, 0xc0, 0)
	want(t, stays, 0xd0, 0)
	s.waitFor(func() bool { return s.counts.of("certificate_invalid") == 1 }, "not counted")

	b, err := os.ReadFile(others.CA)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, a.CA, string(b))
	if p := packet(t, stays); p[0] != 0xe0 || p[2] != 0x87 {
		t.Errorf("got % x, want DISCONNECT with 0x87", p)
	}
}

// TestDeafClientOfAStream: a client that reads nothing is disconnected as on a plain connection, and nobody waits for
// those who have to write to it.
func TestDeafClientOfAStream(t *testing.T) {
	for _, k := range kinds(t) {
		t.Run(k.name, func(t *testing.T) {
			s := newStage(t, say("ok"), nil, anonymous, listening(k.listener), impatient(time.Second))
			deaf := s.dial()
			_ = deaf.(*net.TCPConn).SetReadBuffer(1)
			c := k.begin(t, deaf)
			connect(t, c, 0)
			write(t, c, 0x82, 6, 0, 1, 0, 1, 'o', 0)
			want(t, c, 0x90, 3, 0, 1, 0)
			m := strings.Repeat("x", 8000)
			s.waitFor(func() bool {
				go func() { _ = s.front.Publish(&request.Message{Topic: "o", Payload: []byte(m)}) }()
				return len(s.server.Clients()) == 0
			}, "still connected")
		})
	}
}

// TestTakenOverStream: what a client has sent is heard before another connection takes its session over.
func TestTakenOverStream(t *testing.T) {
	for _, k := range kinds(t) {
		s := newStage(t, say("ok"), nil, anonymous, listening(k.listener))
		for i := range 20 {
			c := k.begin(t, s.dial())
			connect(t, c, 0)
			write(t, c, 0x30, 7, 0, 4, 'i', 'n', '/', 'x', byte('a'+i))
			next := k.begin(t, s.dial())
			connect(t, next, 0)
			_ = next.Close()
		}
		s.waitFor(func() bool { return len(strings.Split(s.payloads(), ",")) == 20 }, k.name+": messages are missing: "+s.payloads())
	}
}

// TestSlowHandshake: what comes before a client's packets has the time that its CONNECT has.
func TestSlowHandshake(t *testing.T) {
	for _, k := range kinds(t) {
		s := newStage(t, say("ok"), nil, anonymous, listening(k.listener), impatient(50*time.Millisecond))
		for _, first := range []string{"", "P", "\x16\x03\x01\x02", "GET / HTTP/1.1\r\n", proxied} {
			c := s.dial()
			write(t, c, []byte(first)...)
			if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s, %q: still open: %v", k.name, first, err)
			}
		}
	}
}
