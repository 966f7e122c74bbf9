package otlp

import (
	"log/slog"
	"net/url"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"eproxy/internal/request"
	"eproxy/internal/spans"
	"eproxy/internal/trace"
	"eproxy/internal/tracecontext"
	"eproxy/test/lib/address"
)

// receive starts the collector's receiver.
func receive(t *testing.T) (base *url.URL, got *consumertest.TracesSink) {
	t.Helper()
	at := address.Free(t)
	factory := otlpreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	settings := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": at}}})
	if err := settings.Unmarshal(cfg); err != nil {
		t.Fatal(err)
	}
	got = &consumertest.TracesSink{}
	r, err := factory.CreateTraces(t.Context(), receivertest.NewNopSettings(factory.Type()), cfg, got)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Shutdown(t.Context()) })
	return &url.URL{Scheme: "http", Host: at}, got
}

// TestReceiver: the collector has the span as it was meant.
func TestReceiver(t *testing.T) {
	base, got := receive(t)
	e := spans.New(base, slog.New(slog.DiscardHandler))
	c := tracecontext.New(true)
	ended := time.Now()
	e.Ended(&request.Trace{Context: c}, trace.Event{Time: ended, Took: time.Millisecond, Client: "c", Topic: "a/b", Route: "a/+", Function: "f", Path: trace.Fallback, Status: 503, Outcome: "failed"})
	e.Start()()
	if got.SpanCount() != 1 {
		t.Fatalf("%d spans", got.SpanCount())
	}
	s := got.AllTraces()[0].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	topic, _ := s.Attributes().Get("messaging.destination.name")
	status, _ := s.Attributes().Get("http.response.status_code")
	if s.Name() != "publish a/+" || s.TraceID() != c.Trace || s.ParentSpanID() != c.Span || s.SpanID().IsEmpty() || s.Kind() != ptrace.SpanKindClient || s.Status().Code() != ptrace.StatusCodeError ||
		s.EndTimestamp().AsTime().UnixNano() != ended.UnixNano() || s.EndTimestamp()-s.StartTimestamp() != 1e6 || topic.Str() != "a/b" || status.Int() != 503 {
		t.Errorf("%+v", s)
	}
}
