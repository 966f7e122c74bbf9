package cloudevents

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

func function(c config.CloudEvents) *config.Function {
	u, _ := url.Parse("http://f.local/x")
	return &config.Function{Name: "f", URL: u, CloudEvents: c}
}

func parse(t *testing.T, b []byte) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// messages are payloads of each kind, with attributes that need escapes.
var messages = []request.Message{
	{ClientID: `c "1%é`, Username: "dév", Topic: "sensors/kü/temp", QoS: 1, Version: 5, ContentType: "application/json", Payload: []byte(`{"t": 21.5}`)},
	{ClientID: "c2", Topic: "a b/c", Version: 4, Payload: []byte{0, 0xff, '"'}, ContentType: "application/octet-stream"},
	{ClientID: "c3", Topic: "t", Version: 5, PayloadFormat: 1, Payload: []byte("grün \"quoted\"\n"), UserProperties: []request.UserProperty{{Name: "Room", Value: "1"}}},
	{ClientID: "c4", Topic: "t", QoS: 1, Retain: true, Version: 5, ContentType: "text/plain"},
}

func check(t *testing.T, e *event.Event, m *request.Message, id, subject string) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("%s: %v", m.ClientID, err)
	}
	if e.ID() != id || e.Type() != "mqtt.publish" || e.Subject() != subject || e.SpecVersion() != "1.0" {
		t.Errorf("%s: %s", m.ClientID, e)
	}
	if !bytes.Equal(e.Data(), m.Payload) && !(len(m.Payload) > 0 && m.Payload[0] == '{' && string(e.Data()) == `{"t":21.5}`) {
		t.Errorf("%s: data %q, want %q", m.ClientID, e.Data(), m.Payload)
	}
}

func TestBinary(t *testing.T) {
	for _, m := range messages {
		e, err := cehttp.NewEventFromHTTPRequest(parse(t, request.Build(nil, function(config.CloudEvents{}), &m, "7")))
		if err != nil {
			t.Fatalf("%s: %v", m.ClientID, err)
		}
		check(t, e, &m, "7", string(request.EncodeValue(nil, m.Topic))) // the SDK leaves the percent-encoding of the HTTP binding as it is
	}
}

func TestStructured(t *testing.T) {
	for _, m := range messages {
		e, err := cehttp.NewEventFromHTTPRequest(parse(t, request.Build(nil, function(config.CloudEvents{Structured: true}), &m, "7")))
		if err != nil {
			t.Fatalf("%s: %v", m.ClientID, err)
		}
		check(t, e, &m, "7", m.Topic)
		if got := e.Extensions()["mqttclientid"]; got != m.ClientID {
			t.Errorf("mqttclientid %q, want %q", got, m.ClientID)
		}
	}
}

func TestBatch(t *testing.T) {
	fn := function(config.CloudEvents{})
	var events [][]byte
	for _, m := range messages {
		events = append(events, request.Event(fn, &m, m.ClientID))
	}
	got, err := cehttp.NewEventsFromHTTPRequest(parse(t, request.Batch(fn, events)))
	if err != nil || len(got) != len(messages) {
		t.Fatalf("%d events: %v", len(got), err)
	}
	for i, m := range messages {
		check(t, &got[i], &m, m.ClientID, m.Topic)
	}
}

// TestFromPublisher: what the SDK writes as JSON comes out as the SDK wrote it.
func TestFromPublisher(t *testing.T) {
	sent := event.New()
	sent.SetID("e1")
	sent.SetSource("//pump/1")
	sent.SetType("com.example.reading")
	sent.SetExtension("tenant", "x")
	if err := sent.SetData("application/json", map[string]int{"v": 1}); err != nil {
		t.Fatal(err)
	}
	payload, err := sent.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	m := &request.Message{ClientID: "c", Topic: "t", Version: 4, Payload: payload}
	for _, structured := range []bool{false, true} {
		e, err := cehttp.NewEventFromHTTPRequest(parse(t, request.Build(nil, function(config.CloudEvents{FromPublisher: true, Structured: structured}), m, "7")))
		if err != nil {
			t.Fatal(err)
		}
		if e.ID() != "e1" || e.Source() != "//pump/1" || e.Type() != "com.example.reading" || e.Extensions()["tenant"] != "x" || string(e.Data()) != `{"v":1}` {
			t.Errorf("got %s", e)
		}
	}
}
