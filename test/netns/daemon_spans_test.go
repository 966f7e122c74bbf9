package netns

import (
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"eproxy/test/lib/lab"
)

const collectorAddress = "127.0.0.1:4318"

// collectSpans is a collector on the node.
func collectSpans(t *testing.T, l *lab.Lab) <-chan *tracepb.Span {
	t.Helper()
	listener, err := l.Listen(lab.Node, collectorAddress)
	if err != nil {
		t.Fatal(err)
	}
	spans := make(chan *tracepb.Span, 100)
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err != nil || proto.Unmarshal(b, &data) != nil {
			t.Errorf("collector: %v, % x", err, b)
		}
		for _, resource := range data.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					spans <- s
				}
			}
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return spans
}

// TestSpans: a collector gets one span of each message, whichever path it takes, with the trace that its function was told of.
func TestSpans(t *testing.T) {
	const theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	l := newLab(t)
	spans := collectSpans(t, l)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	config := strings.Replace(accountConfig(t), someRetries, someRetries+"\n    tracing: true", 1)
	start(t, l, "tc", config+"tracing: {otlp: \"http://"+collectorAddress+"\"}\nmetrics: {listen: \"127.0.0.1:9464\"}\n")
	c := mustLogIn(t, l, account{version: 5, id: "c", user: "dev"})
	for id, x := range []struct {
		path, properties string
		parent           string // of the span
	}{
		{"kernel", "", ""},
		{"fallback", "\x03\x00\x01t", ""},
		{"fallback", "\x26\x00\x0btraceparent\x00\x37" + theirs, theirs[36:52]},
	} {
		r.forget()
		c.write(c.message("sensors/c/temp", uint16(id+1), "x", x.properties))
		if p := c.packet(); p[0]&0xf0 != 0x40 {
			t.Fatalf("% x", p)
		}
		told := r.wait(t, 1)[0].headers["traceparent"]
		s := <-spans
		attributes := make(map[string]string)
		for _, a := range s.GetAttributes() {
			attributes[a.GetKey()] = a.GetValue().GetStringValue()
		}
		own := hex.EncodeToString(s.GetSpanId())
		if x.parent != "" {
			own = hex.EncodeToString(s.GetParentSpanId())
		}
		if got := "00-" + hex.EncodeToString(s.GetTraceId()) + "-" + own + "-01"; got != told || hex.EncodeToString(s.GetParentSpanId()) != x.parent {
			t.Errorf("message %d: the function was told %q, the span is %v", id, told, s)
		}
		if attributes["eproxy.path"] != x.path || attributes["eproxy.outcome"] != "delivered" || attributes["messaging.destination.name"] != "sensors/c/temp" || attributes["messaging.client.id"] != "c" ||
			attributes["eproxy.function"] != "temp" || s.GetEndTimeUnixNano() <= s.GetStartTimeUnixNano() {
			t.Errorf("message %d: %v", id, s)
		}
	}
	until(t, "three spans are counted", func() bool { return strings.Contains(scrape(t, l), `eproxy_spans_total{result="sent"} 3`) })
}
