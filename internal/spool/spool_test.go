package spool

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := Open(dir, "f", 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put spools a message of a client that has arrived at this moment.
func put(t *testing.T, s *Spool, client string, at time.Time, what string) {
	t.Helper()
	o := s.Arrived(client, at)
	if !s.Reserve(client, len(what)) || !s.Put(client, o, []byte(what)) {
		t.Fatalf("no room for %s", what)
	}
	s.Left(client, o)
}

// drained are the clients and records of the next window, which have ended.
func drained(t *testing.T, s *Spool, most int) (out []string) {
	t.Helper()
	w, err := s.Next(most)
	if err != nil || w == nil {
		t.Fatalf("window %v, %v", w, err)
	}
	for _, r := range w.Records {
		out = append(out, w.Client+" "+string(r.Value))
		w.End(r, "delivered")
	}
	w.Done()
	return out
}

// TestOrder: what arrived earlier is drained earlier, whenever it was put, and in whichever run of the program.
func TestOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := open(t, dir)
	now := time.Now()
	put(t, s, "c", now, "2")
	put(t, s, "c", now, "3") // at the same moment
	put(t, s, "c", now.Add(-time.Minute), "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	s.origin = time.Now().Add(-time.Hour) // as if the clock
	put(t, s, "c", s.origin, "4")         // had been put back
	var got []string
	for range 2 {
		got = append(got, drained(t, s, 2)...)
	}
	if want := []string{"c 1", "c 2", "c 3", "c 4"}; !slices.Equal(got, want) {
		t.Errorf("drained: %q, want %q", got, want)
	}
}

// TestMemoryComesFirst: nothing is drained that came after what its client has in memory.
func TestMemoryComesFirst(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	defer s.Close()
	now := time.Now()
	put(t, s, "c", now, "1")
	o := s.Arrived("c", now)
	put(t, s, "c", now, "3")
	if got := drained(t, s, 9); !slices.Equal(got, []string{"c 1"}) {
		t.Errorf("drained: %q", got)
	}
	put(t, s, "d", now, "1") // its turn comes, though c has more
	if got := drained(t, s, 9); !slices.Equal(got, []string{"d 1"}) {
		t.Errorf("drained: %q", got)
	}
	if !s.Follows("c") {
		t.Error("nothing of c is in the spool")
	}
	s.Left("c", o)
	if got := drained(t, s, 9); !slices.Equal(got, []string{"c 3"}) || s.Follows("c") {
		t.Errorf("drained: %q", got)
	}
}

// TestTurns: whoever has much does not keep the others waiting.
func TestTurns(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	defer s.Close()
	now := time.Now()
	for i := range 4 {
		put(t, s, "much", now, fmt.Sprint(i))
	}
	put(t, s, "little", now, "0")
	var got []string
	for range 3 {
		got = append(got, drained(t, s, 2)...)
	}
	if want := []string{"much 0", "much 1", "little 0", "much 2", "much 3"}; !slices.Equal(got, want) {
		t.Errorf("drained: %q, want %q", got, want)
	}
}

// TestBounds: the disk gets no more than it can take, and no client more than is left.
func TestBounds(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	defer s.Close()
	s.Limit(1 << 40)
	for range onTheWayMessages {
		if !s.Reserve("c", 100) {
			t.Fatalf("refused: %v", s.Stat().Refused)
		}
	}
	freed := s.Freed()
	if s.Reserve("c", 100) || s.Stat().Refused[Disk] != 1 {
		t.Errorf("more on its way to the disk: %+v", s.Stat())
	}
	s.Cancel("c", 100)
	select {
	case <-freed:
	default:
		t.Error("who waits for room is not told")
	}
	s.Limit(1 << 20)
	if s.Reserve("c", 900<<10) || s.Stat().Refused[Full] != 1 {
		t.Errorf("one client has all: %+v", s.Stat())
	}
}
