package predict

import "testing"

// TestWeigh: who goes is judged by what instances take, not by what they were taken to need when they were first used; to weigh is
// no use.
func TestWeigh(t *testing.T) {
	e := NewEviction()
	e.Use("large", 1, 64)
	e.Use("small", 0.9, 64)
	e.Weigh("large", 1, 46)
	e.Weigh("small", 0.9, 10)
	e.Weigh("gone", 1, 1)
	for _, want := range []string{"large", "small"} {
		if got, ok := e.Evict(func(string) bool { return true }); !ok || got != want {
			t.Errorf("%q goes, want %q", got, want)
		}
	}
	if e.Len() != 0 {
		t.Errorf("%d instances are kept that were never used", e.Len())
	}
}
