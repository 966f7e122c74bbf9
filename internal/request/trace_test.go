package request

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"eproxy/internal/tracecontext"
)

const (
	aParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	made    = "00-11111111111111111111111111111111-2222222222222222-00"
)

// TestTraceContext: what a publisher says of its trace is passed on if it is valid, and only then; what was made stands in its place
// where the function wants that.
func TestTraceContext(t *testing.T) {
	type props = []UserProperty
	parent := UserProperty{"traceparent", aParent}
	for name, c := range map[string]struct {
		props          props
		headers        map[string]string
		parent, states string // passed on; of the publisher
		user           string // X-Mqtt-User-* headers
	}{
		"none":              {nil, nil, "", "", ""},
		"parent":            {props{parent}, nil, aParent, "", ""},
		"spelling":          {props{{"TRACEPARENT", aParent}}, nil, aParent, "", ""},
		"state":             {props{parent, {"tracestate", "a=1,b=2"}, {"Tracestate", " c=3 "}}, nil, aParent, "a=1,b=2|c=3", ""},
		"malformed":         {props{{"traceparent", aParent[:54]}, {"tracestate", "a=1"}}, nil, "", "", ""},
		"injected":          {props{{"traceparent", "cc" + aParent[2:] + "-\r\nX-Evil: 1"}}, nil, "", "", ""},
		"two parents":       {props{parent, parent}, nil, "", "", ""},
		"state alone":       {props{{"tracestate", "a=1"}}, nil, "", "", ""},
		"malformed state":   {props{parent, {"tracestate", "a=1"}, {"tracestate", "a"}}, nil, aParent, "", ""},
		"empty state":       {props{parent, {"tracestate", ""}}, nil, aParent, "", ""},
		"function's parent": {props{parent, {"tracestate", "a=1"}}, map[string]string{"Traceparent": "ours"}, "ours", "", "x-mqtt-user-traceparent"},
		"function's state":  {props{parent, {"tracestate", "a=1"}}, map[string]string{"Tracestate": "o=1"}, aParent, "o=1", "x-mqtt-user-tracestate"},
		"baggage":           {props{parent, {"baggage", "a=1"}}, nil, aParent, "", "x-mqtt-user-baggage"},
	} {
		for _, tracing := range []float64{0, 1} {
			fn := function(t)
			fn.Headers, fn.Tracing = c.headers, tracing
			if hasHeader(c.headers, "traceparent") {
				fn.Tracing = 0 // the configuration has no such function
			}
			madeContext, _ := tracecontext.Parse(made)
			m := Message{ClientID: "c", Topic: "t", Version: 5, UserProperties: c.props, Trace: &Trace{Context: madeContext, Made: true}}
			want := c.parent
			if want == "" && tracing > 0 {
				want = made
			}
			_, got := headersOf(t, Build(nil, fn, &m, "7"), nil)
			var user []string
			for header := range got {
				if strings.HasPrefix(header, "x-mqtt-user-") {
					user = append(user, header)
				}
			}
			if strings.Join(got["traceparent"], "|") != want || strings.Join(got["tracestate"], "|") != c.states || strings.Join(user, "|") != c.user {
				t.Errorf("%s, tracing %v: %q, want %q, %q, %q", name, tracing, got, want, c.states, c.user)
			}
			if c.headers != nil {
				continue
			}
			fn.CloudEvents.Structured = true
			req := Build(nil, fn, &m, "7")
			_, body, _ := strings.Cut(string(req), "\r\n\r\n")
			_, got = headersOf(t, req, []byte(body))
			var e map[string]any
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatal(err)
			}
			attr, _ := e["traceparent"].(string)
			state, _ := e["tracestate"].(string)
			if strings.Join(got["traceparent"], "|") != want || attr != want || strings.ReplaceAll(state, " ", "") != strings.ReplaceAll(c.states, "|", ",") {
				t.Errorf("%s, tracing %v, structured: %q, %q", name, tracing, got, body)
			}
		}
	}
}

// TestTraceBegins: a message for a function that wants it has its publisher's trace, or one that begins with it, once; of so many as
// are asked for that one is sampled.
func TestTraceBegins(t *testing.T) {
	fn := function(t)
	m := Message{Version: 5}
	if Begin(fn, &m); m.Trace != nil {
		t.Errorf("%+v for a function that wants none", m.Trace)
	}
	fn.Tracing = 1
	m.UserProperties = []UserProperty{{"traceparent", aParent}}
	if Begin(fn, &m); m.Trace == nil || m.Trace.Made || m.Trace.Context.String() != aParent {
		t.Errorf("%+v for a message that has one", m.Trace)
	}
	m.Trace, m.UserProperties[0].Value = nil, "x"
	Begin(fn, &m)
	first := m.Trace
	if first == nil || !first.Made || first.Context.Flags != tracecontext.Sampled {
		t.Errorf("%+v for a message that has none", first)
	}
	if Begin(fn, &m); m.Trace != first {
		t.Errorf("then %+v, first %+v", m.Trace, first)
	}
	var flags []byte
	fn.Tracing = 0.5
	for range 200 {
		m := Message{}
		Begin(fn, &m)
		flags = append(flags, m.Trace.Context.Flags)
	}
	if !slices.Contains(flags, 0) || !slices.Contains(flags, tracecontext.Sampled) {
		t.Errorf("flags %v", flags)
	}
}
