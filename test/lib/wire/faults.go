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

// Plan says what becomes of a segment, in place of the faults: these are sent,
// in this order, at once. It may keep the segment. It must not call SetPlan.
type Plan func(s Segment) []Segment

// direction decides what becomes of the frames of one direction.
type direction struct {
	seed   uint64
	side   uint64
	source *rand.PCG
	rng    *rand.Rand
	faults Faults
	plan   Plan
	held   *Segment // waits for the next one
	count  Count
}

func newDirection(seed, side uint64) direction {
	source := rand.NewPCG(0, 0)
	return direction{seed: seed, side: side, source: source, rng: rand.New(source)}
}

// Count is what happened so far.
type Count struct {
	Frames   int
	Segments int // before any fault
	Faults   int // decisions to do something to one
	Down     int // frames lost while the wire was down
}

// happens decides whether a fault of some probability happens.
func (d *direction) happens(p float64) bool {
	if d.rng.Float64() >= p {
		return false
	}
	d.count.Faults++
	return true
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

// frame is what becomes of a frame: for each anew, a matter of the seed and of
// how many came before.
func (d *direction) frame(b []byte) []due {
	d.count.Frames++
	d.source.Seed(d.seed, d.side<<48|uint64(d.count.Frames))
	return d.next(b)
}

func (d *direction) next(b []byte) []due {
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
		return append(d.treat(held), d.next(b)...)
	}
	if d.plan == nil && len(s.Payload()) > 0 && d.happens(d.faults.Join) {
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
	d.count.Segments++
	if d.plan != nil {
		for _, p := range d.plan(s) {
			out = append(out, due{frame: p.Frame})
		}
		return out
	}
	for _, p := range d.pieces(s) {
		if d.happens(d.faults.Drop) {
			continue
		}
		if d.happens(d.faults.Corrupt) {
			p = d.corrupt(p)
		}
		out = append(out, due{p.Frame, d.wait()})
		if d.happens(d.faults.Duplicate) {
			out = append(out, due{p.Frame, d.hold(d.faults.Delay)})
		}
	}
	return out
}

// wait is how long a piece is held back.
func (d *direction) wait() time.Duration {
	switch {
	case d.happens(d.faults.Reorder):
		return d.hold(5 * time.Millisecond)
	case d.happens(d.faults.Late):
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
	inBytes, cut := d.rng.Float64() < d.faults.Bytes, d.rng.Float64() < d.faults.Cut // the same draws for every segment
	if n < 2 || s.Flags()&(FlagSYN|FlagRST|FlagURG) != 0 {
		return []Segment{s}
	}
	if inBytes || cut {
		d.count.Faults++
	}
	switch {
	case inBytes:
		var out []Segment
		for i := range n {
			out = append(out, s.Piece(i, i+1))
		}
		return out
	case cut:
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
	return s.flip(s.l4+4+d.rng.IntN(s.end-s.l4-4), d.rng.IntN(8))
}
