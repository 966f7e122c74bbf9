package request

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"eproxy/internal/field"
)

// spellings are user properties by which a publisher may try to pose as another:
// attributes of CloudEvents in each spelling, and names of other headers.
var spellings = []string{
	"source", "Source", "SOURCE", "ce-source", "Ce-Source", "CE-SOURCE", "id", "ce-id", "Ce-Id", "type", "ce-type", "subject", "ce-subject",
	"time", "ce-time", "dataschema", "ce-dataschema", "specversion", "ce-specversion", "ce-tenant", "ce-Tenant", "ce-", "ce-ce-source", "ce_source",
	"X-Mqtt-Client-Id", "x-mqtt-client-id", "X-Mqtt-Username", "x-mqtt-username", "X_Mqtt_Username", "name", "Client-Id", "-Id",
	"X-Mqtt-Qos", "X-Mqtt-Retain", "X-Mqtt-Dup", "X-Mqtt-Expiry", "X-Mqtt-User-source", "Host", "Content-Length", "Content-Type",
	"Transfer-Encoding", "Connection", "Authorization", "X-Team", "x-team", "traceparent", "TraceParent", "tracestate",
	"source\r\nce-source", "source: x\r\nX-Evil", "", " source", "source ", "s\x00urce", "sourc\u00e9",
}

// headersOf are the request's header lines: names as they stand, with their values.
func headersOf(t testing.TB, request, payload []byte) (names []string, values map[string][]string) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		t.Fatalf("%v in %q", err, request)
	}
	if req.ContentLength != int64(len(payload)) || !bytes.HasSuffix(request, payload) {
		t.Fatalf("length %d of %d in %q", req.ContentLength, len(payload), request)
	}
	values = make(map[string][]string)
	head, _, _ := strings.Cut(string(request), "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ": ")
		names = append(names, name)
		key := strings.ToLower(name)
		values[key] = append(values[key], value)
	}
	return names, values
}

// TestPropertiesChangeNoHeader: without from_publisher no user property changes or adds a
// header but X-Mqtt-User-*; what is no trace context makes none.
func TestPropertiesChangeNoHeader(t *testing.T) {
	fn := function(t)
	fn.Headers = map[string]string{"X-Team": "edge", "TraceState": "ours"}
	m := Message{ClientID: "d1", Username: "dev", Topic: "a/b", QoS: 1, Version: 5, ContentType: "text/plain", Payload: []byte("x")}
	_, want := headersOf(t, Build(nil, fn, &m, "7"), m.Payload)
	for _, name := range spellings {
		m.UserProperties = []UserProperty{{name, "mallory"}}
		_, got := headersOf(t, Build(nil, fn, &m, "7"), m.Payload)
		added := 0
		for header, values := range got {
			switch {
			case want[header] != nil:
				if strings.Join(values, "|") != strings.Join(want[header], "|") {
					t.Errorf("property %q makes %s %q, it was %q", name, header, values, want[header])
				}
			case strings.HasPrefix(header, "x-mqtt-user-"):
				added++
			default:
				t.Errorf("property %q makes %s: %q", name, header, values)
			}
		}
		if wants := field.ValidName(name) && !strings.EqualFold(name, "traceparent"); wants != (added == 1) {
			t.Errorf("property %q adds %d headers", name, added)
		}
	}
}

// TestFromPublisherDecidesAttributes: publishers decide what ce-* says where the function says
// so, and never who they are.
func TestFromPublisherDecidesAttributes(t *testing.T) {
	fn := function(t)
	fn.CloudEvents.FromPublisher = true
	m := Message{ClientID: "d1", Username: "dev", Topic: "a/b", QoS: 1, Version: 5, Payload: []byte("x")}
	_, plain := headersOf(t, Build(nil, fn, &m, "7"), m.Payload)
	for _, name := range spellings {
		m.UserProperties = []UserProperty{{name, "mallory"}}
		_, got := headersOf(t, Build(nil, fn, &m, "7"), m.Payload)
		attr, prefixed := strings.CutPrefix(strings.ToLower(name), "ce-")
		sets := ceAttributes[attr] || prefixed && extensionName(attr) && attr != "specversion"
		for header, values := range got {
			switch {
			case len(values) != 1:
				t.Errorf("property %q repeats %s: %q", name, header, values)
			case sets && header == "ce-"+attr:
				if values[0] != "mallory" {
					t.Errorf("property %q leaves %s %q", name, header, values)
				}
			case plain[header] != nil:
				if values[0] != plain[header][0] {
					t.Errorf("property %q makes %s %q", name, header, values)
				}
			case !strings.HasPrefix(header, "x-mqtt-user-"):
				t.Errorf("property %q makes %s: %q", name, header, values)
			}
		}
	}
	if got := plain["x-mqtt-client-id"]; len(got) != 1 || got[0] != "d1" {
		t.Errorf("X-Mqtt-Client-Id is %q", got)
	}
}

// TestSenderEncoded: client id and user name cannot leave their headers, whatever
// they are made of.
func TestSenderEncoded(t *testing.T) {
	fn := function(t)
	fn.CloudEvents.FromPublisher = true
	for in, want := range map[string]string{
		"d1": "d1", "a b": "a%20b", "x\r\nX-Evil: 1": "x%0D%0AX-Evil:%201", `q"u`: "q%22u", "100%": "100%25", "%41": "%2541", "\u00fc": "%C3%BC",
		"\u6e29\U0001f321": "%E6%B8%A9%F0%9F%8C%A1", "\x00\x7f": "%00%7F", "a/b:c;d,e": "a/b:c;d,e",
	} {
		m := Message{ClientID: in, Username: in, Topic: "t", Payload: []byte("x")}
		_, got := headersOf(t, Build(nil, fn, &m, "7"), m.Payload)
		for header, want := range map[string]string{"ce-source": "eproxy/" + want, "x-mqtt-client-id": want, "x-mqtt-username": want} {
			if len(got[header]) != 1 || got[header][0] != want {
				t.Errorf("%q: %s is %q, want %q", in, header, got[header], want)
			}
		}
	}
	m := Message{Topic: "t", Payload: []byte("x")}
	_, got := headersOf(t, Build(nil, fn, &m, "7"), m.Payload)
	if got["x-mqtt-username"] != nil || got["ce-source"][0] != "eproxy/" || len(got["x-mqtt-client-id"]) != 1 {
		t.Errorf("empty client id and user name: %q", got)
	}
}

// publishers says whether a user property may decide a header (lower case) of a
// function that has a tracestate of its own.
func publishers(header string, fromPublisher bool) bool {
	return header == "traceparent" || strings.HasPrefix(header, "x-mqtt-user-") ||
		fromPublisher && strings.HasPrefix(header, "ce-") && header != "ce-specversion"
}
