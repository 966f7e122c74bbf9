package topic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestValidNamesAndFilters(t *testing.T) {
	for f, want := range map[string]error{
		"a/b": nil, "+": nil, "#": nil, "a/+/b": nil, "a/#": nil, "/": nil, "//": nil, "$share/g/a/#": nil,
		"": ErrEmpty, "a/#/b": ErrHash, "a#": ErrHash, "a/b+": ErrPlus, "a\x00": ErrNUL, "a\xff": ErrUTF8,
		"\xed\xa0\x80": ErrUTF8, "$share/g": ErrShare, "$share//a": ErrShare, "$share/g/": ErrShare,
		strings.Repeat("a", 65536): ErrTooLong,
	} {
		if err := ValidateFilter(f); !errors.Is(err, want) {
			t.Errorf("filter %.20q: %v, want %v", f, err, want)
		}
	}
	for n, want := range map[string]error{"a/b": nil, "a/+": ErrWildcard, "#": ErrWildcard, "": ErrEmpty, "$SYS/x": nil} {
		if err := ValidateName(n); !errors.Is(err, want) {
			t.Errorf("name %q: %v, want %v", n, err, want)
		}
	}
}

func TestFilterMatchesName(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true}, {"#", "a/b", true}, {"+", "finance", true}, {"+", "/finance", false},
		{"+/+", "/finance", true}, {"/+", "/finance", true}, {"sport/+", "sport", false}, {"sport/+", "sport/", true},
		{"#", "$SYS/a", false}, {"+/monitor/Clients", "$SYS/monitor/Clients", false}, {"$SYS/#", "$SYS/a", true},
		{"a/+/#", "a", false}, {"a/+/#", "a/b", true}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true},
	} {
		if got := Match(c.filter, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.name, got)
		}
	}
}

func TestMostSpecificWins(t *testing.T) {
	tab, err := NewTable([]string{"#", "a/#", "a/+/c", "a/b/#", "+/b/c", "a/b/c", "a/+/#"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"a/b/c": 5, "a/b/d": 3, "a/x/c": 2, "a/x/y": 6, "a": 1, "x/b/c": 4, "z": 0, "a/b": 3} {
		if got, _ := tab.Lookup(name); got != want {
			t.Errorf("%s: filter %d, want %d", name, got, want)
		}
	}
	if _, err := NewTable([]string{"a", "$share/g/a"}); err == nil {
		t.Error("the same filter twice was accepted")
	}
}

// words is a small alphabet, so that random filters and names meet.
var words = []string{"a", "b", "", "$x", "c"}

func randomFilter(r *rand.Rand) string {
	var l []string
	for range 1 + r.IntN(4) {
		switch r.IntN(4) {
		case 0:
			l = append(l, "+")
		default:
			l = append(l, words[r.IntN(len(words))])
		}
	}
	if r.IntN(4) == 0 {
		l = append(l, "#")
	}
	return strings.Join(l, "/")
}

func compareLookups(t *testing.T, filters, names []string) {
	t.Helper()
	seen := map[string]bool{}
	var set []string
	for _, f := range filters {
		if ValidateFilter(f) == nil && !strings.HasPrefix(f, "$share/") && !seen[f] {
			seen[f] = true
			set = append(set, f)
		}
	}
	tab, err := NewTable(set)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Compile(set, 1<<16)
	if err != nil {
		return // more states than the maps hold: such a set is refused, there is nothing to compare
	}
	if len(a.Unsupported) > 0 {
		return
	}
	for _, n := range names {
		if ValidateName(n) != nil {
			continue
		}
		want, _ := tab.Lookup(n)
		if got := a.Lookup(n); got != want {
			t.Errorf("%q among %q: automaton says %d, table %d", n, set, got, want)
		}
	}
}

func TestAutomatonEqualsTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var filters, names []string
		for range r.IntN(12) {
			filters = append(filters, randomFilter(r))
		}
		for range 30 {
			var l []string
			for range 1 + r.IntN(5) {
				l = append(l, words[r.IntN(len(words))])
			}
			names = append(names, strings.Join(l, "/"))
		}
		compareLookups(t, filters, names)
	}
}

func FuzzAutomaton(f *testing.F) {
	f.Add("a/#\na/+/b\n#", "a/x/b")
	f.Fuzz(func(t *testing.T, filters, name string) {
		compareLookups(t, strings.Split(filters, "\n"), []string{name})
	})
}

func TestTooManyStatesAreRefused(t *testing.T) {
	var filters []string
	for i := range 14 {
		l := make([]string, 14)
		for j := range l {
			l[j] = "+"
		}
		l[i] = "x"
		filters = append(filters, strings.Join(l, "/"))
	}
	if _, err := Compile(filters, 1000); err == nil {
		t.Error("no error for filters that blow up")
	}
}

func manyFilters() []string {
	var filters []string
	for i := range 10000 {
		filters = append(filters, fmt.Sprintf("site/%d/+/m%d", i/100, i%100))
	}
	return filters
}

func BenchmarkCompile10000(b *testing.B) {
	filters := manyFilters()
	for b.Loop() {
		if _, err := Compile(filters, 1<<17); err != nil {
			b.Fatal(err)
		}
	}
}
