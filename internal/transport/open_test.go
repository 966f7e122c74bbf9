package transport

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/pires/go-proxyproto"

	"eproxy/internal/config"
	"eproxy/test/lib/certs"
)

// pair is a TCP connection: the client's end, and the server's.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { _ = c.Close() })
	}
	return client, server
}

func newListener(t *testing.T, cfg config.Listener) *Listener {
	t.Helper()
	l, err := New(&cfg, func(m string, args ...any) { t.Log(append([]any{m}, args...)...) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// opened is what becomes of the server's end.
type opened struct {
	stream *Stream
	err    error
}

func open(l *Listener, server net.Conn) <-chan opened {
	done := make(chan opened, 1)
	go func() {
		s, err := l.Open(server)
		if err != nil {
			_ = server.Close()
		}
		done <- opened{s, err}
	}()
	return done
}

var everybody = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}

// TestHeaders: a PROXY header of either version names the client; what comes with it is not lost.
func TestHeaders(t *testing.T) {
	v2 := func(h *proxyproto.Header) string {
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	from, to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 4711}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1883}
	long := &proxyproto.Header{Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4, SourceAddr: from, DestinationAddr: to}
	if err := long.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, 2000)}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ header, want string }{
		"version 1":            {"PROXY TCP4 192.0.2.9 10.0.0.1 4711 1883\r\n", "192.0.2.9:4711"},
		"version 1, IPv6":      {"PROXY TCP6 2001:db8::9 2001:db8::1 4711 1883\r\n", "[2001:db8::9]:4711"},
		"version 1, unknown":   {"PROXY UNKNOWN\r\n", "invalid AddrPort"},
		"version 2":            {v2(proxyproto.HeaderProxyFromAddrs(2, from, to)), "192.0.2.9:4711"},
		"version 2, local":     {v2(&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}), "invalid AddrPort"},
		"version 2, with TLVs": {v2(long), "192.0.2.9:4711"},
		"none":                 {"\x10\x0c\x00\x04MQTT", "error"},
		"version 1, bad":       {"PROXY TCP4 300.0.2.9 10.0.0.1 4711 1883\r\n", "error"},
		"version 1, endless":   {"PROXY TCP4 " + strings.Repeat("1", 500), "error"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			done := open(newListener(t, config.Listener{Proxies: everybody}), server)
			if _, err := io.WriteString(client, c.header+"hello"); err != nil {
				t.Fatal(err)
			}
			o := <-done
			if c.want == "error" {
				if !errors.Is(o.err, ErrHeader) {
					t.Errorf("error %v, want that of a PROXY header", o.err)
				}
				return
			}
			if o.err != nil {
				t.Fatal(o.err)
			}
			if got := o.stream.Remote.String(); got != c.want {
				t.Errorf("client %s, want %s", got, c.want)
			}
			rest := make([]byte, 5-len(o.stream.Early))
			if _, err := io.ReadFull(server, rest); err != nil || string(o.stream.Early)+string(rest) != "hello" {
				t.Errorf("behind the header %q and %q (%v), want hello", o.stream.Early, rest, err)
			}
		})
	}
}

// TestTrusts: where headers are expected, only those that may send them may connect.
func TestTrusts(t *testing.T) {
	l := newListener(t, config.Listener{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for from, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "192.0.2.1": false, "fe80::1%lo": false} {
		if got := l.Trusts(netip.MustParseAddr(from)); got != want {
			t.Errorf("%s: %v", from, got)
		}
	}
	if !newListener(t, config.Listener{}).Trusts(netip.MustParseAddr("192.0.2.1")) {
		t.Error("without proxies, not everybody may connect")
	}
}

// TestAll: a PROXY header, TLS in it, WebSocket frames in that.
func TestAll(t *testing.T) {
	a := certs.New(t)
	server := a.Issue("server")
	l := newListener(t, config.Listener{Proxies: everybody, Websocket: true, TLS: &config.TLS{Cert: server.Cert, Key: server.Key}})
	client, end := pair(t)
	done := open(l, end)
	if _, err := io.WriteString(client, "PROXY TCP4 192.0.2.9 10.0.0.1 4711 1883\r\n"); err != nil {
		t.Fatal(err)
	}
	d := websocket.Dialer{
		NetDial: func(string, string) (net.Conn, error) { return client, nil }, Subprotocols: []string{"mqtt"},
		TLSClientConfig: a.Client(nil),
	}
	ws, r, err := d.Dial("wss://localhost/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.stream.Remote.String() != "192.0.2.9:4711" {
		t.Errorf("client %s", o.stream.Remote)
	}
	for _, part := range []string{"hel", "", "lo"} { // where frames end means nothing
		if err := ws.WriteMessage(websocket.BinaryMessage, []byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(o.stream.Conn, b); err != nil || string(b) != "hello" {
		t.Errorf("read %q (%v), want hello", b, err)
	}
	if _, err := o.stream.Conn.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	if kind, m, err := ws.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(m) != "there" {
		t.Errorf("got %d %q (%v)", kind, m, err)
	}
	o.stream.Conn.Finish()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("at the end: %v", err)
	}
}

// TestUpgrades: what is no WebSocket for MQTT is refused with a reason.
func TestUpgrades(t *testing.T) {
	l := newListener(t, config.Listener{Websocket: true, Origins: []string{"https://dashboard.example"}})
	const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
	for name, c := range map[string]struct{ head, want string }{
		"no upgrade":         {"", "HTTP/1.1 400"},
		"no subprotocol":     {key, "HTTP/1.1 400"},
		"other subprotocol":  {key + "Sec-WebSocket-Protocol: chat\r\n", "HTTP/1.1 400"},
		"another's page":     {key + "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n", "HTTP/1.1 403"},
		"the dashboard":      {key + "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://Dashboard.example\r\n", "HTTP/1.1 101"},
		"no page":            {key + "Sec-WebSocket-Protocol: chat, mqtt\r\n", "HTTP/1.1 101"},
		"MQTT 3.1":           {key + "Sec-WebSocket-Protocol: mqttv3.1\r\n", "HTTP/1.1 101"},
		"a head too large":   {"X: " + strings.Repeat("x", upgradeSize) + "\r\n", ""},
		"not HTTP":           {"\x00\r\n", ""},
		"an older WebSocket": {strings.Replace(key, "13", "8", 1) + "Sec-WebSocket-Protocol: mqtt\r\n", "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			done := open(l, server)
			if _, err := io.WriteString(client, "GET /any HTTP/1.1\r\nHost: broker\r\n"+c.head+"\r\n"); err != nil {
				t.Fatal(err)
			}
			o := <-done
			if ok := strings.HasSuffix(c.want, "101"); ok != (o.err == nil) || !ok && !errors.Is(o.err, ErrUpgrade) {
				t.Errorf("error %v", o.err)
			}
			line, _ := bufio.NewReader(client).ReadString('\n')
			if !strings.HasPrefix(line, c.want) {
				t.Errorf("answer %q, want %q", line, c.want)
			}
		})
	}
}

// TestText: MQTT packets travel in binary frames [MQTT-6.0.0-1].
func TestText(t *testing.T) {
	client, server := pair(t)
	done := open(newListener(t, config.Listener{Websocket: true}), server)
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return client, nil }, Subprotocols: []string{"mqtt"}}
	ws, r, err := d.Dial("ws://broker/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	o := <-done
	if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.stream.Conn.Read(make([]byte, 9)); !errors.Is(err, errText) {
		t.Errorf("read: %v", err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
		t.Errorf("the client sees %v", err)
	}
}

// TestUsernames: each part of a certificate that can be a user name.
func TestUsernames(t *testing.T) {
	a := certs.New(t)
	server, device := a.Issue("server"), a.Issue("device")
	for part, want := range map[string]string{
		"": "", config.UsernameCommonName: "device", config.UsernameSubject: "CN=device,O=tests", config.UsernameDNS: "device.example",
		config.UsernameEmail: "device@example", config.UsernameURI: "urn:dev:device",
	} {
		l := newListener(t, config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, Username: part}})
		client, end := pair(t)
		done := open(l, end)
		if err := tls.Client(client, a.Client(&device)).Handshake(); err != nil {
			t.Fatal(err)
		}
		if o := <-done; o.err != nil || o.stream.Username != want || o.stream.Certified != (part != "") {
			t.Errorf("%q: %v, %+v", part, o.err, o.stream)
		}
	}
}
