package topic

import "fmt"

// Table finds the most specific filter for a name by trying all: the
// reference that the automaton must equal.
type Table struct{ filters []string }

// NewTable makes a table of valid filters; $share/group/ is stripped. The same
// filter twice is an error.
func NewTable(filters []string) (*Table, error) {
	seen := make(map[string]bool)
	t := &Table{}
	for _, f := range filters {
		if err := ValidateFilter(f); err != nil {
			return nil, fmt.Errorf("filter %q: %w", f, err)
		}
		f = StripShare(f)
		if seen[f] {
			return nil, fmt.Errorf("filter %q is a duplicate", f)
		}
		seen[f] = true
		t.filters = append(t.filters, f)
	}
	return t, nil
}

// Lookup finds the most specific filter that matches the name.
func (t *Table) Lookup(name string) (index int, ok bool) {
	index = -1
	for i, f := range t.filters {
		if Match(f, name) && (index < 0 || Compare(f, t.filters[index]) < 0) {
			index = i
		}
	}
	return index, index >= 0
}

// Verdict is what a filter has to do with a name.
type Verdict struct {
	Index   int    // of the filter
	Filter  string // without $share
	Matches bool
	Wins    bool
	Why     string // one phrase
}

// Explain says for every filter that matches, and for the winner, why.
func (t *Table) Explain(name string) []Verdict {
	best, _ := t.Lookup(name)
	var out []Verdict
	for i, f := range t.filters {
		v := Verdict{Index: i, Filter: f, Matches: Match(f, name), Wins: i == best}
		switch {
		case v.Wins:
			v.Why = "most specific match"
		case v.Matches:
			v.Why = fmt.Sprintf("matches, but %q is more specific", t.filters[best])
		default:
			v.Why = "does not match"
		}
		out = append(out, v)
	}
	return out
}
