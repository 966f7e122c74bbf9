package wire

import (
	"math/rand/v2"
	"time"
)

// Faults says how often what goes wrong, as probabilities per TCP segment.
type Faults struct {
	Drop      float64
	Duplicate float64       // sent again, at once or up to Delay later
	Corrupt   float64       // one payload or header byte changed, checksum left
	Reorder   float64       // held back for up to 5 ms: later ones overtake it
	Late      float64       // held back for up to Delay
	Delay     time.Duration // longest time a segment is held back
	Cut       float64       // sent in two to four pieces, some overlapping
	Bytes     float64       // sent in pieces of one byte
	Join      float64       // held back up to 2 ms to be joined with the next one
}

// mtu is the largest IP packet on the wire, bytes.
const mtu = 1500

// joinTime is how long a segment waits for the next one.
const joinTime = 2 * time.Millisecond

// due is a frame with the time that it still waits.
type due struct {
	frame []byte
	wait  time.Duration
}

// direction decides what becomes of the frames of one direction.
type direction struct {
	rng    *rand.Rand
	faults Faults
	held   *Segment // waits for the next one
}

// flush is what was held back to be joined.
func (d *direction) flush() []due {
	if d.held == nil {
		return nil
	}
	s := *d.held
	d.held = nil
	return d.treat(s)
}

// frame is what becomes of a frame.
func (d *direction) frame(b []byte) []due {
	s, ok := Parse(b)
	if !ok {
		return []due{{frame: b}}
	}
	if d.held != nil {
		held := *d.held
		d.held = nil
		if held.Joins(s) && len(held.Payload())+len(s.Payload()) <= s.room() {
			return d.treat(held.Join(s))
		}
		return append(d.treat(held), d.frame(b)...)
	}
	if len(s.Payload()) > 0 && d.rng.Float64() < d.faults.Join {
		d.held = &s
		return nil
	}
	// What the receiving interface had merged goes on in segments again.
	var out []due
	for from := 0; len(s.Payload()) > s.room(); {
		to := min(from+s.room(), len(s.Payload()))
		out = append(out, d.treat(s.Piece(from, to))...)
		if from = to; from == len(s.Payload()) {
			return out
		}
	}
	return d.treat(s)
}

// treat applies the faults to one segment.
func (d *direction) treat(s Segment) []due {
	var out []due
	for _, p := range d.pieces(s) {
		if d.rng.Float64() < d.faults.Drop {
			continue
		}
		if d.rng.Float64() < d.faults.Corrupt {
			p = d.corrupt(p)
		}
		out = append(out, due{p.Frame, d.wait()})
		if d.rng.Float64() < d.faults.Duplicate {
			out = append(out, due{p.Frame, d.hold(d.faults.Delay)})
		}
	}
	return out
}

// wait is how long a piece is held back.
func (d *direction) wait() time.Duration {
	switch {
	case d.rng.Float64() < d.faults.Reorder:
		return d.hold(5 * time.Millisecond)
	case d.rng.Float64() < d.faults.Late:
		return d.hold(d.faults.Delay)
	}
	return 0
}

func (d *direction) hold(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(d.rng.Int64N(int64(limit)))
}

// pieces is the segment, possibly cut.
func (d *direction) pieces(s Segment) []Segment {
	n := len(s.Payload())
	if n < 2 || s.Flags()&(flagSYN|flagRST|flagURG) != 0 {
		return []Segment{s}
	}
	switch {
	case d.rng.Float64() < d.faults.Bytes:
		var out []Segment
		for i := range n {
			out = append(out, s.Piece(i, i+1))
		}
		return out
	case d.rng.Float64() < d.faults.Cut:
		var out []Segment
		for from := 0; from < n; {
			to := from + 1 + d.rng.IntN(n-from)
			if len(out) == 3 {
				to = n
			}
			out = append(out, s.Piece(from-d.rng.IntN(min(from, 8)+1), to))
			from = to
		}
		return out
	}
	return []Segment{s}
}

// corrupt changes a byte behind the addresses and ports, so that the segment
// still belongs to its connection; the checksum tells.
func (d *direction) corrupt(s Segment) Segment {
	f := append([]byte(nil), s.Frame...)
	f[s.l4+4+d.rng.IntN(s.end-s.l4-4)] ^= 1 << d.rng.IntN(8)
	return Segment{Frame: f, l4: s.l4, data: s.data, end: s.end}
}
