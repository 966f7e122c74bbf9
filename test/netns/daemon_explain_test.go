package netns

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"eproxy/test/lib/certs"
	"eproxy/test/lib/lab"
)

// explained is mapsctl explain for a client and a topic: what it says of each subject.
func (s *system) explained(client, topic string, flags ...string) map[string][2]string {
	s.t.Helper()
	out := map[string][2]string{}
	for _, row := range s.rows("explain", append([]string{"--client", client, "--topic", topic}, flags...)...) {
		out[row["what"].(string)] = [2]string{row["result"].(string), row["why"].(string)}
	}
	return out
}

// expectPath checks the path that is foretold, and why.
func (s *system) expectPath(client, topic, path, why string, flags ...string) {
	s.t.Helper()
	if got := s.explained(client, topic, flags...)["path"]; got[0] != path || !strings.HasPrefix(got[1], why) {
		s.t.Errorf("%s to %s %v: %q, want %s: %s", client, topic, flags, got, path, why)
	}
}

// explainListeners are plain, by TLS, and behind a proxy.
const explainListeners = `listeners:
  - address: ":1883"
  - {address: ":8883", tls: {cert: %s, key: %s}}
  - {address: ":1884", proxy_protocol: [10.88.0.0/24]}
`

// TestExplain: what mapsctl explain foretells of a message is what becomes of it.
func TestExplain(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	a := certs.New(t)
	server := a.Issue("server", net.ParseIP(lab.NodeV4.String()))
	config := accountConfig(t) + fmt.Sprintf(explainListeners, server.Cert, server.Key)
	s := start(t, l, "tc", config)

	s.expectPath("c", "sensors/c/temp", "none", "the client is not connected")
	c := mustLogIn(t, l, account{version: 5, id: "c", user: "eve"})
	deliver := func(topic string, id uint16) (taken bool) {
		t.Helper()
		before := s.counts()["tc_device_in/taken"]
		if code, end := c.answer(topic, id, "x"); code != 0 || end {
			t.Fatalf("%s: reason code %#x, end %v", topic, code, end)
		}
		return s.counts()["tc_device_in/taken"] > before
	}
	s.expectPath("c", "sensors/c/temp", "fallback", "not_granted")
	if deliver("sensors/c/temp", 1) {
		t.Error("the kernel took a topic that was not granted")
	}
	s.expectPath("c", "sensors/c/temp", "kernel", "taken: at TC")
	if !deliver("sensors/c/temp", 2) {
		t.Error("the kernel did not take what it was foretold to")
	}
	s.expectPath("c", "sensors/c/temp", "fallback", "qos2", "--qos", "2")
	s.expectPath("c", "sensors/c/temp", "fallback", "retain", "--retain")
	s.expectPath("c", "sensors/c/temp", "fallback", "too_large", "--size", "1473")

	s.expectPath("c", "sensors/other/temp", "refused", "not_authorized")
	if code, _ := c.answer("sensors/other/temp", 3, "x"); code != 0x87 {
		t.Errorf("reason code %#x, want 0x87", code)
	}
	if got := s.explained("c", "sensors/c/temp")["refusal"]; got[0] != "not_authorized" || !strings.Contains(got[1], `topic "sensors/other/temp"`) {
		t.Errorf("refusal %q", got)
	}
	mustLogIn(t, l, account{version: 5, id: "d", user: "dev"})
	s.expectPath("d", "nowhere", "broker", "no_route")

	connect := func(id, port string, wrap func(net.Conn) net.Conn) {
		t.Helper()
		c, err := l.Dial(t.Context(), lab.Dev, net.JoinHostPort(lab.NodeV4.String(), port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		x := wrap(c)
		connack := make([]byte, 4)
		if _, err := x.Write(account{version: 4, id: id, user: "dev", password: "dev"}.bytes()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(x, connack); err != nil || connack[3] != 0 {
			t.Fatalf("%s: CONNACK % x, %v", id, connack, err)
		}
	}
	connect("tls", "8883", func(c net.Conn) net.Conn { return tls.Client(c, a.Client(nil)) })
	s.expectPath("tls", "sensors/tls/temp", "fallback", "not_open")
	connect("proxied", "1884", func(c net.Conn) net.Conn {
		if _, err := io.WriteString(c, "PROXY TCP4 192.0.2.9 192.0.2.1 4711 1883\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	})
	s.expectPath("proxied", "sensors/proxied/temp", "kernel", "taken: at TC")

	if _, code := logIn(t, l, account{version: 4, id: "stranger", user: "dev", password: "wrong"}); code == 0 {
		t.Error("a wrong password is right")
	}
	if got := s.explained("stranger", "sensors/stranger/temp")["refusal"]; got[0] != "not_authenticated" {
		t.Errorf("refusal %q of a client that may not connect", got)
	}
}
