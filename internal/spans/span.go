package spans

import (
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"eproxy/internal/buildinfo"
	"eproxy/internal/request"
	"eproxy/internal/trace"
	"eproxy/internal/tracecontext"
)

// service is how eproxy is called among the services of a trace.
const service = "eproxy"

// item is a span that waits.
type item struct {
	trace request.Trace
	event trace.Event
}

// encode is a request with these spans. TracesData has the field that ExportTraceServiceRequest has, with the same number, so that
// the bytes are the same, without gRPC, which the package of the latter brings along.
func encode(node string, items []item) ([]byte, error) {
	out := make([]*tracepb.Span, len(items))
	for i := range items {
		out[i] = items[i].span()
	}
	build := buildinfo.Get()
	return proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", service), text("service.version", build.Version), text("host.name", node)}},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: service, Version: build.Version}, Spans: out}},
	}}})
}

// span is what is exported. Where the publisher began the trace its span is the parent, and the request that the function got says so, too;
// else the trace begins with this span, which the function has as its parent.
func (x *item) span() *tracepb.Span {
	c, e := &x.trace.Context, &x.event
	s := &tracepb.Span{
		TraceId: c.Trace[:], SpanId: c.Span[:], Flags: uint32(c.Flags),
		Name: "publish " + e.Route, Kind: tracepb.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: uint64(e.Time.Add(-e.Took).UnixNano()), EndTimeUnixNano: uint64(e.Time.UnixNano()),
		Attributes: []*commonpb.KeyValue{
			text("messaging.system", "mqtt"), text("messaging.destination.name", e.Topic), text("messaging.destination.template", e.Route), text("messaging.client.id", e.Client),
			number("eproxy.qos", int64(e.QoS)), text("eproxy.path", e.Path), text("eproxy.function", e.Function), text("eproxy.outcome", e.Outcome),
		},
		Status: &tracepb.Status{},
	}
	if !x.trace.Made {
		own := tracecontext.New(true).Span
		s.SpanId, s.ParentSpanId = own[:], c.Span[:]
	}
	if e.Status != 0 {
		s.Attributes = append(s.Attributes, number("http.response.status_code", int64(e.Status)))
	}
	if e.Pod != "" {
		s.Attributes = append(s.Attributes, text("eproxy.pod", e.Pod))
	}
	if e.Waited > 0 {
		s.Attributes = append(s.Attributes, number("eproxy.waited_ns", e.Waited.Nanoseconds()))
	}
	if e.Outcome != trace.Delivered {
		s.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: e.Outcome}
	}
	return s
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int64) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}}}
}
