package main

import (
	"fmt"
	"testing"
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
