package takeover

import (
	"net/url"
	"reflect"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// TestTraceOfTakenOver: a message that the programs began a trace with belongs to it still.
func TestTraceOfTakenOver(t *testing.T) {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	fn := &config.Function{URL: u, Tracing: 1}
	m := request.Message{ClientID: "c", Topic: "a/b", Payload: []byte("traceparent: x")}
	request.Begin(fn, &m)
	m.EventID = "7"
	if got := messageOf(fn, request.Build(nil, fn, &m, "7")); !reflect.DeepEqual(got, &m) {
		t.Errorf("%+v, want %+v", got, m)
	}
}

// TestDeadLetterOfGoneClient: what a dead letter says of a message is read from its request
// when the client is gone.
func TestDeadLetterOfGoneClient(t *testing.T) {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"", "//edge-7", "a b%"} {
		for _, from := range []bool{false, true} {
			fn := &config.Function{URL: u, CloudEvents: config.CloudEvents{Source: source, FromPublisher: from}}
			want := request.Message{EventID: "7", ClientID: "c/1 %41\r\n\u00fc", Username: "d\u00e9v+%", Topic: "a/b c%", Payload: []byte("x\r\n\r\ny")}
			got := messageOf(fn, request.Build(nil, fn, &want, "7"))
			if !reflect.DeepEqual(got, &want) {
				t.Errorf("source %q: %+v, want %+v", source, got, want)
			}
		}
	}
}

// TestPropertiesOfRequest: what a message's request says of its MQTT 5 properties, whatever the function says of its own.
func TestPropertiesOfRequest(t *testing.T) {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range []*config.Function{{URL: u}, {URL: u, ContentType: "application/cbor"}} {
		for _, want := range []request.Message{
			{},
			{ContentType: "text/csv; x=%41"},
			{PayloadFormat: 1},
			{MessageExpiry: 4_000_000_000, UserProperties: []request.UserProperty{{Name: "a", Value: "%41: b"}, {Name: "X-Mqtt-Expiry", Value: "7"}, {Name: "a", Value: ""}}},
		} {
			want.EventID, want.ClientID, want.Topic, want.Payload = "7", "c", "a/b", []byte("\r\nX-Mqtt-Expiry: 3\r\n")
			built := want
			if want.MessageExpiry > 0 {
				built.Expires = time.Now().Add(time.Duration(want.MessageExpiry) * time.Second)
			}
			if got := messageOf(fn, request.Build(nil, fn, &built, "7")); !reflect.DeepEqual(got, &want) {
				t.Errorf("%+v, want %+v", got, &want)
			}
		}
	}
}
