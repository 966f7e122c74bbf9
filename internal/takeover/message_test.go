package takeover

import (
	"net/url"
	"reflect"
	"testing"

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
			want := request.Message{ClientID: "c/1 %41\r\n\u00fc", Username: "d\u00e9v+%", Topic: "a/b c%", Payload: []byte("x\r\n\r\ny")}
			got := messageOf(fn, request.Build(nil, fn, &want, "7"))
			if !reflect.DeepEqual(got, &want) {
				t.Errorf("source %q: %+v, want %+v", source, got, want)
			}
		}
	}
}
