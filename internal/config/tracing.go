package config

import (
	"maps"
	"slices"
	"strings"

	"eproxy/internal/tracecontext"
)

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
