package config

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"eproxy/internal/tracecontext"
)

// Tracing is where the spans of sampled messages go.
type Tracing struct {
	OTLP *url.URL // base URL of a collector's OTLP over HTTP; nil: nowhere
}

// spans reads where spans go.
func (b *builder) spans(r *rawSpans) {
	if r.OTLP == "" {
		return
	}
	u, err := url.Parse(r.OTLP)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		b.fail("$.tracing.otlp", "tracing.otlp %q: must be the base URL of a collector's OTLP over HTTP, as http://127.0.0.1:4318", r.OTLP)
		return
	}
	b.cfg.Tracing.OTLP = u
}

// tracing reads which part of a function's messages are sampled; 0: none gets a traceparent that has none.
func (b *builder) tracing(path string, f *Function, r *rawTracing) float64 {
	if r == nil || r.Off {
		return 0
	}
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		if strings.EqualFold(name, tracecontext.Parent) {
			b.fail(path, "function %q: tracing: headers has a %s for all messages already", f.Name, tracecontext.Parent)
		}
	}
	if r.Sample == nil {
		return 1
	}
	if !(*r.Sample > 0 && *r.Sample <= 1) {
		b.fail(path+".sample", "function %q: tracing.sample %v: must be above 0, and at most 1", f.Name, *r.Sample)
	}
	return *r.Sample
}
