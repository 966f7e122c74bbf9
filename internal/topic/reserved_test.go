package topic

import "testing"

// TestReservedNames: the whole first level decides, not how it begins.
func TestReservedNames(t *testing.T) {
	for name, want := range map[string]bool{
		"$SYS": true, "$SYS/x": true, "$share/g/t": true, "$SYSTEM/x": false, "$sys/x": false, "$": false, "a/$SYS": false, "$shared/x": false,
	} {
		if Reserved(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
