//go:build cgo

package native

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"eproxy/internal/abi"
	"eproxy/internal/topic"
)

// levels are few, so that names and filters meet often.
var levels = []string{"", "a", "b", "ab", "$a", "$", "sensors"}

// randomLevels are one to five of these, joined.
func randomLevels(rng *rand.Rand, from []string) string {
	var l []string
	for range 1 + rng.IntN(5) {
		l = append(l, from[rng.IntN(len(from))])
	}
	return strings.Join(l, "/")
}

// compareFilter checks many names against many filters: the programs show what topic.Match says.
func compareFilter(table *Table, n int) error {
	rng := rand.New(rand.NewPCG(1, 2))
	for range n {
		filter := randomLevels(rng, append([]string{"+", "+", "#"}, levels...))
		name := randomLevels(rng, levels)
		if topic.ValidateFilter(filter) != nil || topic.ValidateName(name) != nil {
			continue
		}
		first := []byte{0x30, 0x31, 0x32, 0x34, 0x3d}[rng.IntN(5)]
		got, seen := table.Filter(filter, packetOf(first, name, 1, rng.IntN(300), false))
		if want := topic.Match(filter, name); got != want || seen != name {
			return fmt.Errorf("%q and %q: match %v, want %v; the topic is read as %q", filter, name, got, want, seen)
		}
	}
	return nil
}

// TestTraceFilter: what a trace shows by its topic filter, against topic.Match; and of topics that are cut, or not there.
func TestTraceFilter(t *testing.T) {
	table := Own()
	if err := compareFilter(table, 300_000); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("a/", 60) + strings.Repeat("b", 40)
	shown := long[:abi.TopicMax]
	for _, c := range []struct {
		filter  string
		packet  []byte
		matches bool
		topic   string
	}{
		{"", packetOf(0x30, long, 0, 5, false), true, shown},
		{"a/#", packetOf(0x30, long, 0, 5, false), true, shown},
		{shown, packetOf(0x30, long, 0, 5, false), false, shown}, // it goes on
		{shown, packetOf(0x30, shown, 0, 5, false), true, shown},
		{strings.Repeat("+/", 60) + "+", packetOf(0x30, long, 0, 5, false), false, shown}, // it may go on
		{"#", []byte{0x30, 5, 0}, false, ""},                                              // no length
		{"", []byte{0x30, 5, 0}, true, ""},
		{"a/#", []byte{0x30, 9, 0, 7, 'a', '/', 'b'}, true, "a/b"}, // the rest is in the next segment
		{"a/b", []byte{0x30, 9, 0, 7, 'a', '/', 'b'}, false, "a/b"},
		{"#", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0, 1, 'a'}, true, "a"},
		{"#", packetOf(0x30, "", 0, 5, true), false, ""}, // by an alias
	} {
		if m, name := table.Filter(c.filter, c.packet); m != c.matches || name != c.topic {
			t.Errorf("%q, % x: %v, %q, want %v, %q", c.filter, c.packet[:min(len(c.packet), 10)], m, name, c.matches, c.topic)
		}
	}
}

// TestPlantedFilterMistakes: the comparison finds each of them.
func TestPlantedFilterMistakes(t *testing.T) {
	for _, p := range []struct{ name, old, new string }{
		{"wildcard matches names of the server", "\tif (!at && b == '$' && (c == '+' || c == '#')) /* [MQTT-4.7.2-1] */\n\t\treturn FILTER_NO;\n", ""},
		{"wildcard of a level goes on over levels", "if (b != '/')\n\t\t\treturn at;", "if (1)\n\t\t\treturn at;"},
		{"level above not matched", "return at + 2 == t->topic_len && filter_byte(t, at) == '/'", "return 0 && filter_byte(t, at) == '/'"},
		{"empty last level not matched", "\tif (filter_byte(t, at) == '#')\n\t\treturn true;\n", ""},
		{"last wildcard needs more", "if (at < t->topic_len && filter_byte(t, at) == '+')", "if (0)"},
		{"beginning suffices", "return c == b ? at + 1 : FILTER_NO;", "return c == b ? (at + 1 == t->topic_len ? FILTER_ALL : at + 1) : FILTER_NO;"},
	} {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), "trace_filter.h", p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			if err := compareFilter(table, 300_000); err == nil {
				t.Error("not found")
			} else {
				t.Log(err)
			}
		})
	}
}
