package request

import (
	"math/rand/v2"
	"strings"

	"eproxy/internal/config"
	"eproxy/internal/tracecontext"
)

// traceHeader is the header of W3C Trace Context that a user property is; empty: none, or the function's own headers have it.
func traceHeader(fn *config.Function, p UserProperty) string {
	for _, name := range []string{tracecontext.Parent, tracecontext.State} {
		if strings.EqualFold(p.Name, name) && !hasHeader(fn.Headers, name) {
			return name
		}
	}
	return ""
}

// traceOf is the trace context that a message's request to a function carries: that of its publisher, if it is valid, else what was made
// for it, if the function wants that. An empty parent: none. States without a parent mean nothing, nor do several parents (W3C Trace
// Context, section 3.2.1 and 3.3).
func traceOf(fn *config.Function, m *Message) (parent string, states []string) {
	parents := 0
	for _, p := range m.UserProperties {
		switch traceHeader(fn, p) {
		case tracecontext.Parent:
			parents++
			parent = p.Value
		case tracecontext.State:
			states = append(states, p.Value)
		}
	}
	if _, ok := tracecontext.Parse(parent); !ok || parents != 1 {
		if fn.Tracing > 0 && m.Trace != nil && m.Trace.Made {
			return m.Trace.Context.String(), nil
		}
		return "", nil
	}
	if !tracecontext.ValidState(states) {
		states = nil
	}
	return parent, states
}

// Begin says which trace a message belongs to, if it is for a function that wants one: that of its publisher, or one that begins with it.
func Begin(fn *config.Function, m *Message) {
	if fn.Tracing == 0 || m.Trace != nil {
		return
	}
	parent, _ := traceOf(fn, m)
	c, sent := tracecontext.Parse(parent)
	if !sent {
		c = tracecontext.New(rand.Float64() < fn.Tracing)
	}
	m.Trace = &Trace{Context: c, Made: !sent}
}

// appendTrace writes the headers of the message's trace context.
func appendTrace(dst []byte, fn *config.Function, m *Message) []byte {
	parent, states := traceOf(fn, m)
	if parent == "" {
		return dst
	}
	dst = appendHeader(dst, tracecontext.Parent, parent)
	for _, s := range states {
		if s = strings.Trim(s, " \t"); s != "" {
			dst = appendHeader(dst, tracecontext.State, s)
		}
	}
	return dst
}
