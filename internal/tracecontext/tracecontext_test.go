package tracecontext

import (
	"fmt"
	"strings"
	"testing"
)

const (
	trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	span  = "00f067aa0ba902b7"
)

// TestParse: what is a traceparent by the clauses of the specification, and what is not.
func TestParse(t *testing.T) {
	for s, want := range map[string]bool{
		"00-" + trace + "-" + span + "-01":                    true,
		"00-" + trace + "-" + span + "-00":                    true,
		"00-" + trace + "-" + span + "-ff":                    true, // unknown flags are not judged
		"00-" + trace + "-" + span + "-01-x":                  false,
		"00-" + trace + "-" + span + "-0":                     false,
		"01-" + trace + "-" + span + "-01":                    true,
		"cc-" + trace + "-" + span + "-01-what-will-come":     true,
		"cc-" + trace + "-" + span + "-01.what":               false,
		"cc-" + trace + "-" + span + "-01-\r\nX-Evil: 1":      false,
		"ff-" + trace + "-" + span + "-01":                    false,
		"0-" + trace + "-" + span + "-01":                     false,
		"00-" + strings.ToUpper(trace) + "-" + span + "-01":   false,
		"00-" + trace + "-" + strings.ToUpper(span) + "-01":   false,
		"00-" + trace + "-" + span + "-0A":                    false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01":  false,
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01": false,
		"00-" + trace[:31] + "g-" + span + "-01":              false,
		"00_" + trace + "-" + span + "-01":                    false,
		"00-" + trace + "_" + span + "-01":                    false,
		"00-" + trace + "-" + span + "_01":                    false,
		"00-" + trace + span + "--01":                         false,
		" 00-" + trace + "-" + span + "-01":                   false,
		"":                                                    false,
	} {
		c, ok := Parse(s)
		if ok != want {
			t.Errorf("%q: %v", s, ok)
		}
		if want && fmt.Sprintf("%x-%x-%02x", c.Trace, c.Span, c.Flags) != s[3:55] {
			t.Errorf("%q is %x", s, c)
		}
	}
}

// TestNew: a context that is made is one that can be read, and no two are equal.
func TestNew(t *testing.T) {
	seen := make(map[Context]bool)
	for i := range 1000 {
		c := New(i%2 == 1)
		got, ok := Parse(c.String())
		if !ok || got != c || c.Flags != byte(i%2) || seen[c] {
			t.Fatalf("%v: %v, %v", c, got, ok)
		}
		seen[c] = true
	}
}

func TestValidState(t *testing.T) {
	var many []string
	for i := range maxMembers {
		many = append(many, fmt.Sprintf("k%d=1", i))
	}
	for _, c := range []struct {
		values []string
		want   bool
	}{
		{[]string{"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}, true},
		{[]string{"a=1 , b=2", " c= 3"}, true},
		{[]string{"a=1,,b=2", ""}, true},
		{[]string{"1tenant@system=x"}, true},
		{[]string{"a_-*/0=x"}, true},
		{many, true},
		{append(many[:maxMembers:maxMembers], "one=more"), false},
		{[]string{"a=1", "a=2"}, false},
		{[]string{"a"}, false},
		{[]string{"=1"}, false},
		{[]string{"a="}, false},
		{[]string{"A=1"}, false},
		{[]string{"1=1"}, false},
		{[]string{"a b=1"}, false},
		{[]string{"a@1=1"}, false},
		{[]string{"a@=1"}, false},
		{[]string{"a=1=2"}, false},
		{[]string{"a=\x01"}, false},
		{[]string{"a=\r\nX-Evil: 1"}, false},
		{[]string{"a=\u00fc"}, false},
		{[]string{strings.Repeat("a", 257) + "=1"}, false},
		{[]string{"a=" + strings.Repeat("1", 257)}, false},
		{[]string{strings.Repeat("a", 242) + "@b=1"}, false},
		{[]string{"a@" + strings.Repeat("b", 15) + "=1"}, false},
	} {
		if got := ValidState(c.values); got != c.want {
			t.Errorf("%.60q: %v", c.values, got)
		}
	}
}

// FuzzParse: what is read is written again as it was, as far as version 00 goes, and no value has what ends a header.
func FuzzParse(f *testing.F) {
	f.Add("00-" + trace + "-" + span + "-01")
	f.Add("cc-" + trace + "-" + span + "-01-x")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := Parse(s)
		if !ok {
			return
		}
		if got := c.String(); got[2:] != s[2:55] || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q is %q", s, got)
		}
	})
}
