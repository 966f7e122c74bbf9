package parking

import (
	"errors"
	"slices"
	"testing"

	"eproxy/internal/abi"
)

// TestRoomAsksAgain: where there is no memory for more messages that wait, the programs are told, after a
// while, what there is, so that they ask again, and get what there is then.
func TestRoomAsksAgain(t *testing.T) {
	errShort := errors.New("no memory")
	var did []string
	var told []uint32
	free := uint32(100)
	r := room{
		grow: func(entry uint32) error {
			if entry >= free {
				return errShort
			}
			return nil
		},
		tell: func(entries uint32) error { did, told = append(did, "tell"), append(told, entries); return nil },
		rest: func() { did = append(did, "rest") },
	}
	if err := r.more(80); err != nil {
		t.Fatal(err)
	}
	if err := r.more(80); !errors.Is(err, errShort) {
		t.Fatalf("growing without memory: %v", err)
	}
	free = abi.ParkedMax
	if err := r.more(2 * abi.ParkedMax); err != nil {
		t.Fatal(err)
	}
	if want := []uint32{80, 100, abi.ParkedMax}; !slices.Equal(told, want) {
		t.Errorf("the programs were told of %v entries, want %v", told, want)
	}
	if want := []string{"tell", "rest", "tell", "tell"}; !slices.Equal(did, want) {
		t.Errorf("%v, want %v", did, want)
	}
}
