package link

import "time"

// Params are what one direction of a link does to packets. The zero value carries
// them at once.
type Params struct {
	Delay   time.Duration // of every packet
	Jitter  time.Duration // added or subtracted at most, uniformly, of each packet by itself: packets overtake each other
	Loss    float64       // probability that a packet is lost
	Reorder float64       // probability that a packet is held back by Hold
	Hold    time.Duration
	Rate    int // bytes per second, headers included; 0: unlimited
	Queue   int // packets that wait for the rate or the delay; 0: DefaultQueue. More are lost
}

// DefaultQueue is how many packets of a direction may be under way if nothing
// else is said.
const DefaultQueue = 10000

// Kind says what the place of a packet in a stream is counted by.
type Kind uint8

// The kinds. Setup is never lost or held back: how a connection begins, and that
// it was aborted, is no part of what is compared.
const (
	Setup Kind = iota // SYN, RST, what is not TCP, and connections whose SYN was not seen
	Data              // payload or FIN: the place is the sequence number less the sender's initial one
	Ack               // neither: the place is the acknowledgement number less the initial sequence number of the other side
)

// Key is what a packet's fate depends on, beside the seed.
type Key struct {
	Direction  Direction
	Connection int // in the order of their SYNs
	Kind       Kind
	Offset     uint32
	Repetition int // how often a packet of this connection, direction and kind was at this offset before
}

// Fate is what becomes of a packet.
type Fate struct {
	Lost  bool
	Delay time.Duration
}

// Decide is the fate of a packet.
func (p Params) Decide(seed uint64, k Key) Fate {
	f := Fate{Delay: p.Delay}
	if k.Kind == Setup {
		return f
	}
	draw := newDraw(seed, k)
	f.Lost = draw.next() < p.Loss
	f.Delay += time.Duration((2*draw.next() - 1) * float64(p.Jitter))
	if draw.next() < p.Reorder {
		f.Delay += p.Hold
	}
	f.Delay = max(f.Delay, 0)
	return f
}

// draw is a sequence of numbers that a seed and a key determine.
type draw uint64

func newDraw(seed uint64, k Key) *draw {
	d := draw(seed)
	for _, part := range []uint64{uint64(k.Direction), uint64(k.Connection), uint64(k.Kind), uint64(k.Offset), uint64(k.Repetition)} {
		d = draw(mix(uint64(d) + golden + part))
	}
	return &d
}

// next is uniform in [0, 1).
func (d *draw) next() float64 {
	*d += golden
	return float64(mix(uint64(*d))>>11) / (1 << 53)
}

// golden is the increment of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), mix
// its finalizer.
const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
