package readbuf

import (
	"bytes"
	"testing"
)

// TestRoomIsNeverEmpty: what comes without a pause, and is more than one buffer that is lent, is held whole.
func TestRoomIsNeverEmpty(t *testing.T) {
	want := make([]byte, 10*ReadSize+7)
	for i := range want {
		want[i] = byte(i * 31 >> 3)
	}
	for _, used := range []int{0, 100} {
		var u Buffer
		for rest := want; len(rest) > 0; {
			n := copy(u.Room(), rest)
			if n == 0 {
				t.Fatalf("no room with %d bytes held", len(u.Held))
			}
			u.Added(n)
			rest = rest[n:]
			if u.From == 0 {
				u.Use(used)
			}
		}
		if !bytes.Equal(u.Rest(), want[used:]) {
			t.Errorf("%d bytes used first: what is held is not what came", used)
		}
		u.Use(len(u.Rest()))
		u.Idle()
		if cap(u.Held) > KeepSize {
			t.Errorf("%d bytes are kept of nothing", cap(u.Held))
		}
	}
}
