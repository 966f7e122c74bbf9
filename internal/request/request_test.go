package request

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
)

func function(t testing.TB) *config.Function {
	t.Helper()
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	return &config.Function{Name: "temp", URL: u}
}

// TestSameBytesAsKernel: the bytes that internal/bpf's golden packets show of the
// kernel path.
func TestSameBytesAsKernel(t *testing.T) {
	m := &Message{ClientID: "dev-1", Topic: "sensors/ü \"%/temp", QoS: 1, Dup: true, Payload: []byte("x")}
	want := "POST /ingest HTTP/1.1\r\nHost: temp.local\r\nce-specversion: 1.0\r\nce-type: mqtt.publish\r\nce-source: eproxy/dev-1\r\n" +
		"ce-subject: sensors/%C3%BC%20%22%25/temp\r\nX-Mqtt-Qos: 1\r\nX-Mqtt-Dup: 1\r\nce-id: 7\r\nContent-Length: 1\r\n\r\nx"
	if got := string(Build(nil, function(t), m, "7")); got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	for _, from := range []bool{false, true} {
		fn := function(t)
		fn.CloudEvents.FromPublisher = from
		m.Username = "a user"
		head := Sender(Prefix(fn), m.ClientID, m.Username, from)
		if got := Build(nil, fn, m, "7"); !bytes.HasPrefix(got, append(head, "\r\nce-subject: "...)) {
			t.Errorf("%q is not how the request begins: %q", head, got)
		}
		if short := Sender(Prefix(fn), m.ClientID, m.Username, false); !bytes.HasPrefix(head, short) {
			t.Errorf("%q does not begin with %q", head, short)
		}
	}
}

func TestPropertiesBecomeHeaders(t *testing.T) {
	fn := function(t)
	fn.ContentType = "application/json"
	fn.Headers = map[string]string{"X-Team": "edge"}
	fn.CloudEvents.FromPublisher = true
	m := &Message{ClientID: "c", Topic: "t", Version: 5, PayloadFormat: 1, UserProperties: []UserProperty{
		{"color", "red"}, {"TraceParent", aParent}, {"type", "com.example"}, {"ce-source", "/me"}, {"Host", "evil"},
		{"bad\r\nname", "x"}, {"bad", "a\r\nX-Evil: 1"}, {"Content-Length", "0"},
	}}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(Build(nil, fn, m, "1"))))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"X-Team": "edge", "Content-Type": "text/plain; charset=utf-8", "X-Mqtt-User-color": "red",
		"Traceparent": aParent, "Ce-Type": "com.example", "Ce-Source": "/me", "X-Evil": "", "X-Mqtt-User-Host": "evil"} {
		if got := req.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if req.Host != "temp.local" || req.ContentLength != 0 {
		t.Errorf("host %q length %d", req.Host, req.ContentLength)
	}
}

// FuzzBuild: whatever a client sends, the request is one request with one
// header block, and the body is the payload. No user property changes a header
// that eproxy or the configuration writes; with from_publisher, ce-* only.
func FuzzBuild(f *testing.F) {
	f.Add("c", "u", "a/b", []byte("x"), "name", "value", "text/plain")
	f.Add("c\r\n", "u\r\n", "a\r\nX: y", []byte("\r\n\r\n"), "a\r\nb", "c\r\nd", "e\r\nf")
	f.Add("", "", "\x00", []byte(nil), "ce-id", "\xff", "")
	for _, name := range spellings {
		f.Add("c", "u", "t", []byte("x"), name, "mallory", "")
	}
	f.Fuzz(func(t *testing.T, client, user, topic string, payload []byte, name, value, contentType string) {
		fn := function(t)
		fn.Headers = map[string]string{"X-Team": "edge", "tracestate": "ours"}
		for _, from := range []bool{false, true} {
			fn.CloudEvents.FromPublisher = from
			m := &Message{ClientID: client, Username: user, Topic: topic, Payload: payload, QoS: 1, ContentType: contentType}
			names, want := headersOf(t, Build(nil, fn, m, "id"), payload)
			m.UserProperties = []UserProperty{{name, value}}
			more, got := headersOf(t, Build(nil, fn, m, "id"), payload)
			if len(more) > len(names)+1 {
				t.Fatalf("headers %q where there were %q", more, names)
			}
			for _, header := range more {
				if header = strings.ToLower(header); !publishers(header, from) && !slices.Equal(got[header], want[header]) {
					t.Fatalf("%s is %q, without the user property %q", header, got[header], want[header])
				}
			}
			for header := range want {
				if got[header] == nil {
					t.Fatalf("no %s", header)
				}
			}
		}
	})
}

// TestRenew: a request that is sent again says how long its message is still of use, and is the same otherwise.
func TestRenew(t *testing.T) {
	fn := function(t)
	m := &Message{ClientID: "c", Topic: "t", QoS: 1, Payload: []byte("\r\nX-Mqtt-Expiry: 3\r\n"), Expires: time.Now().Add(100 * time.Second),
		UserProperties: []UserProperty{{"X-Mqtt-Expiry", "7"}}}
	first := Build(nil, fn, m, "1")
	if !bytes.Contains(first, []byte("X-Mqtt-Expiry: 100\r\n")) {
		t.Fatalf("%q", first)
	}
	if same := Renew(first, time.Time{}); !bytes.Equal(same, first) {
		t.Errorf("%q of a message without an end", same)
	}
	m.Expires = time.Now().Add(9 * time.Second)
	if got, want := Renew(first, m.Expires), Build(nil, fn, m, "1"); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	m.Expires, m.UserProperties = time.Time{}, nil
	if plain := Build(nil, fn, m, "1"); !bytes.Equal(Renew(plain, time.Now().Add(time.Minute)), plain) {
		t.Error("a payload was changed")
	}
}
