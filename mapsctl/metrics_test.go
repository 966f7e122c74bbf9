package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestLabelsAsPrometheusWritesThem: never as a language prints its maps.
func TestLabelsAsPrometheusWritesThem(t *testing.T) {
	l := labelSet{"reason": "taken", "hook": `a"b`}
	if got := fmt.Sprint(l); got != `hook="a\"b",reason="taken"` {
		t.Error(got)
	}
	if got := fmt.Sprint(labelSet{}); got != "" {
		t.Error(got)
	}
}

// TestChanges: what has not changed is not shown, counters that began again count from 0, and gauges fall.
func TestChanges(t *testing.T) {
	label := labelSet{"route": "a"}
	from := time.Unix(100, 0)
	got := changes(
		[]metricSample{{"m", label, 10, true}, {"m", labelSet{"route": "b"}, 5, true}, {"again", nil, 100, true}, {"g", nil, 3, false}},
		[]metricSample{{"m", label, 14, true}, {"m", labelSet{"route": "b"}, 5, true}, {"again", nil, 6, true}, {"g", nil, 1, false}, {"new", nil, 2, true}},
		from, from.Add(2*time.Second))
	want := map[string][2]float64{"m": {4, 2}, "again": {6, 3}, "g": {-2, -1}, "new": {2, 1}}
	if len(got) != len(want) {
		t.Errorf("%d changes, not %d: %v", len(got), len(want), got)
	}
	for _, x := range got {
		if w := want[x.Name]; x.Change != w[0] || x.Rate != w[1] {
			t.Errorf("%s changed by %v, %v per second, not %v", x.Name, x.Change, x.Rate, w)
		}
	}
}

func TestChangesAreShown(t *testing.T) {
	x := metricChange{time.Unix(0, 0).UTC(), "eproxy_messages_total", labelSet{"route": "a\x1b"}, 1500000, 3, 1.5}
	for form, want := range map[string]string{
		"json":  `{"time":"1970-01-01T00:00:00Z","name":"eproxy_messages_total","labels":{"route":"a\u001b"},"value":1500000,"change":3,"per_second":1.5}` + "\n",
		"table": "TIME                CHANGE    PER_SECOND           VALUE  METRIC\n00:00:00.000             3           1.5         1500000  eproxy_messages_total{route=\"a\\x1b\"}\n",
	} {
		var b strings.Builder
		show, err := changePrinter(&b, form)
		if err != nil {
			t.Fatal(err)
		}
		if err := show(x); err != nil || b.String() != want {
			t.Errorf("%s: %v\n%q\nwant\n%q", form, err, b.String(), want)
		}
	}
	if _, err := changePrinter(io.Discard, "yaml"); err == nil {
		t.Error("yaml accepted, which has no lines")
	}
}
