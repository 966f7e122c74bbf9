package broker

import (
	"testing"

	"eproxy/internal/config"
)

// TestRouteIsTheRules: what a session remembers of a topic is that topic's route, under the rules that are asked for.
func TestRouteIsTheRules(t *testing.T) {
	under := func(filters ...string) *rules {
		t.Helper()
		cfg := &config.Config{}
		for _, f := range filters {
			cfg.Routes = append(cfg.Routes, &config.Route{Filter: f})
		}
		r, err := newRules(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	old, next := under("a/#", "b"), under("b")
	x := &Session{}
	for _, c := range []struct {
		rules *rules
		topic string
		want  string
	}{{old, "a/x", "a/#"}, {old, "a/x", "a/#"}, {old, "b", "b"}, {old, "c", ""}, {old, "a/x", "a/#"}, {next, "a/x", ""}, {next, "b", "b"}, {old, "b", "b"}} {
		got := ""
		route := x.route(c.rules, c.topic)
		if route != nil {
			got = route.Filter
		}
		if got != c.want || route != c.rules.route(c.topic) {
			t.Errorf("%s leads to %q, want %q", c.topic, got, c.want)
		}
	}
}
