package parking

import (
	"testing"

	"eproxy/internal/bpf"
)

// TestManyWhoWaitInALineAreToldOnce: userspace has many messages of one line, and asks once for each; what happens there is looked at
// once, and not once for each of them.
func TestManyWhoWaitInALineAreToldOnce(t *testing.T) {
	var l lines
	const line, other = 7, 8
	held, free := 0, 0
	for range 1000 {
		l.wait(line, bpf.EproxyParkOpPARK_OP_WATCH, func() { free++ }, func() {})
	}
	for range 2 { // these want different things
		l.wait(line, bpf.EproxyParkOpPARK_OP_HOLD, func() { held++ }, func() {})
	}
	if all := l.take(other); len(all) != 0 {
		t.Errorf("%d wait in a line of which nobody asked", len(all))
	}
	for _, f := range l.take(line) {
		f()
	}
	if free != 1 || held != 2 {
		t.Errorf("told: %d times who asked whether the line is free, %d times who wants to hold it; want 1 and 2", free, held)
	}
	if all := l.take(line); len(all) != 0 {
		t.Errorf("%d wait that were told", len(all))
	}
}
