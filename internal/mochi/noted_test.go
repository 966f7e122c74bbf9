package mochi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
)

// TestRefusalsAreLogged: at the default log level an operator sees what clients
// are refused, with where they come from, once for a host; the rest is counted
// and summed up.
func TestRefusalsAreLogged(t *testing.T) {
	mine := config.Auth{Users: []config.User{user("u", "p", "mine/#")}}
	mine.Users[0].Subscribe = []string{"mine/#"}
	hello := samples.Hello(4)
	login := func(name, password string) string {
		return samples.Connect(4, 0xc2, samples.String("c"), samples.String(name), samples.String(password))
	}
	publish := func(topic string) string { return samples.Packet(0x32, samples.String(topic), "\x00\x01", "x") }
	for name, c := range map[string]struct {
		sent   string
		auth   config.Auth
		reason string
		logged []string
	}{
		"TLS":                  {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", anonymous, "tls", []string{"TLS handshake", "plain MQTT"}},
		"HTTP GET":             {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", anonymous, "http", []string{"HTTP request"}},
		"HTTP POST":            {"POST /mqtt HTTP/1.1\r\n\r\n", anonymous, "http", []string{"HTTP request", "WebSocket"}},
		"HTTP/2":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", anonymous, "http", []string{"HTTP request"}},
		"PROXY version 1":      {"PROXY TCP4 192.0.2.1 192.0.2.2 5 1883\r\n", anonymous, "proxy_protocol", []string{"PROXY protocol"}},
		"PROXY version 2":      {"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", anonymous, "proxy_protocol", []string{"PROXY protocol"}},
		"nonsense":             {"hello", anonymous, "protocol_error", []string{"first packet is not CONNECT"}},
		"oversized packet":     {hello + "\x30\x81\x80\x04\x00\x01a", anonymous, "packet_too_large", []string{"packet is larger", "client=c "}},
		"wrong password":       {login("eve", "guess"), mine, "not_authenticated", []string{"wrong user name or password", "client=c ", "user=eve"}},
		"forbidden topic":      {login("u", "p") + publish("yours/x"), mine, "not_authorized", []string{"may not publish", "client=c ", "topic=yours/x"}},
		"forbidden filter":     {login("u", "p") + samples.Packet(0x82, "\x00\x01", samples.String("yours/#"), "\x00"), mine, "not_authorized", []string{"may not subscribe", "topic=yours/#"}},
		"the server's topic":   {hello + publish("$SYS/x"), anonymous, "reserved_topic", []string{"topic=$SYS/x", "client=c "}},
		"function answers 500": {hello + publish("in/x"), anonymous, "", []string{"its message was not delivered", "client=c ", "topic=in/x", "function=f", "function answered 500"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, nil, c.auth)
			const times = 3
			for range times {
				conn := s.dial()
				write(t, conn, []byte(c.sent)...)
				if name == "the server's topic" { // acknowledged, the connection goes on
					want(t, conn, 0x20, 2, 0, 0)
					want(t, conn, 0x40, 2, 0, 1)
					_ = conn.Close()
					continue
				}
				if name == "forbidden filter" { // SUBACK says no, the connection goes on
					want(t, conn, 0x20, 2, 0, 0)
					want(t, conn, 0x90, 3, 0, 1, 0x80)
					_ = conn.Close()
					continue
				}
				readAll(t, conn)
			}
			if c.reason != "" && s.counts.of(c.reason) != times {
				t.Errorf("counted %v, want %s %d times", s.counts.all(), c.reason, times)
			}
			s.server.Close()
			lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
			lines = slices.DeleteFunc(lines, func(l string) bool {
				return strings.Contains(l, "auth is not configured") || strings.Contains(l, "room for clients")
			})
			if len(lines) != 2 || !strings.Contains(lines[1], "more_in_last_minute=2") {
				t.Fatalf("logged, want one line and its sum:\n%s", s.log.String())
			}
			for _, want := range append(c.logged, "level=WARN") {
				if !strings.Contains(lines[0], want) {
					t.Errorf("no %q in %s", want, lines[0])
				}
			}
			if c.reason != "" && !strings.Contains(lines[0], "remote=127.0.0.1:") {
				t.Errorf("no remote address in %s", lines[0])
			}
		})
	}
}
