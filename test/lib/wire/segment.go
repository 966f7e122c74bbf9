package wire

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// ethernet is the length of an Ethernet header.
const ethernet = 14

// TCP flags (RFC 9293 section 3.1).
const (
	FlagFIN = 0x01
	FlagSYN = 0x02
	FlagRST = 0x04
	FlagPSH = 0x08
	FlagACK = 0x10
	FlagURG = 0x20
)

// Segment is a TCP segment in an Ethernet frame, IPv4 without options or IPv6
// without extension headers.
type Segment struct {
	Frame []byte
	l4    int
	data  int // offset of the payload
	end   int // end of the IP packet: what follows is padding
}

// Parse finds the TCP segment in a frame.
func Parse(frame []byte) (s Segment, ok bool) {
	if len(frame) < ethernet+20 {
		return s, false
	}
	s.Frame = frame
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if frame[ethernet] != 0x45 || frame[ethernet+9] != 6 || binary.BigEndian.Uint16(frame[ethernet+6:])&0x3fff != 0 {
			return s, false
		}
		s.l4 = ethernet + 20
		s.end = ethernet + int(binary.BigEndian.Uint16(frame[ethernet+2:]))
	case 0x86dd:
		if len(frame) < ethernet+40 || frame[ethernet+6] != 6 {
			return s, false
		}
		s.l4 = ethernet + 40
		s.end = s.l4 + int(binary.BigEndian.Uint16(frame[ethernet+4:]))
	default:
		return s, false
	}
	if len(frame) < s.l4+20 || s.end > len(frame) {
		return s, false
	}
	s.data = s.l4 + int(frame[s.l4+12]>>4)*4
	return s, s.data <= s.end && s.data >= s.l4+20
}

func (s Segment) v6() bool { return s.l4 == ethernet+40 }

// Seq is the sequence number.
func (s Segment) Seq() uint32 { return binary.BigEndian.Uint32(s.Frame[s.l4+4:]) }

// Ack is the acknowledgement number.
func (s Segment) Ack() uint32 { return binary.BigEndian.Uint32(s.Frame[s.l4+8:]) }

// Window is the window field.
func (s Segment) Window() uint16 { return binary.BigEndian.Uint16(s.Frame[s.l4+14:]) }

// Flags are the control bits.
func (s Segment) Flags() byte { return s.Frame[s.l4+13] }

// Ports are source and destination.
func (s Segment) Ports() (src, dst uint16) {
	return binary.BigEndian.Uint16(s.Frame[s.l4:]), binary.BigEndian.Uint16(s.Frame[s.l4+2:])
}

// Addresses are source and destination.
func (s Segment) Addresses() (src, dst netip.AddrPort) {
	sport, dport := s.Ports()
	at, n := ethernet+12, 4
	if s.v6() {
		at, n = ethernet+8, 16
	}
	a, _ := netip.AddrFromSlice(s.Frame[at : at+n])
	b, _ := netip.AddrFromSlice(s.Frame[at+n : at+2*n])
	return netip.AddrPortFrom(a, sport), netip.AddrPortFrom(b, dport)
}

// Payload is the segment's data.
func (s Segment) Payload() []byte { return s.Frame[s.data:s.end] }

// room is how much payload such a segment may have on the wire, bytes.
func (s Segment) room() int { return mtu - (s.data - ethernet) }

// Piece is a copy of the segment with bytes [from, to) of its payload. FIN and
// PSH stay on the piece with the last byte.
func (s Segment) Piece(from, to int) Segment {
	f := slices.Concat(s.Frame[:s.data], s.Payload()[from:to])
	p := Segment{Frame: f, l4: s.l4, data: s.data, end: len(f)}
	binary.BigEndian.PutUint32(f[s.l4+4:], s.Seq()+uint32(from))
	if to < len(s.Payload()) {
		f[s.l4+13] &^= FlagFIN | FlagPSH
	}
	p.finish()
	return p
}

// WithPayload is a copy of the segment with another payload.
func (s Segment) WithPayload(b []byte) Segment {
	f := slices.Concat(s.Frame[:s.data], b)
	p := Segment{Frame: f, l4: s.l4, data: s.data, end: len(f)}
	p.finish()
	return p
}

// Join is the segment with the payload of the one that follows it in the
// stream, and that one's flags, acknowledgement and window.
func (s Segment) Join(next Segment) Segment {
	f := slices.Concat(next.Frame[:next.data], s.Payload(), next.Payload())
	p := Segment{Frame: f, l4: next.l4, data: next.data, end: len(f)}
	binary.BigEndian.PutUint32(f[p.l4+4:], s.Seq())
	p.finish()
	return p
}

// Joins says whether next continues this segment's stream and both are plain.
func (s Segment) Joins(next Segment) bool {
	const special = FlagSYN | FlagFIN | FlagRST | FlagURG
	if s.l4 != next.l4 || s.data != next.data || s.Flags()&special != 0 || next.Flags()&(special&^FlagFIN) != 0 {
		return false
	}
	a, b := s.Frame[ethernet+12:s.l4+4], next.Frame[ethernet+12:next.l4+4]
	if s.v6() {
		a, b = s.Frame[ethernet+8:s.l4+4], next.Frame[ethernet+8:next.l4+4]
	}
	return slices.Equal(a, b) && s.Seq()+uint32(len(s.Payload())) == next.Seq() && len(s.Payload()) > 0 && len(next.Payload()) > 0
}

// Set changes header fields and makes the checksum right again.
func (s Segment) Set(seq, ack uint32, flags byte, window uint16) {
	binary.BigEndian.PutUint32(s.Frame[s.l4+4:], seq)
	binary.BigEndian.PutUint32(s.Frame[s.l4+8:], ack)
	s.Frame[s.l4+13] = flags
	binary.BigEndian.PutUint16(s.Frame[s.l4+14:], window)
	s.finish()
}

// Urgent is a copy of the segment that says that urgent data ends that far behind
// its first byte.
func (s Segment) Urgent(pointer uint16) Segment {
	p := s.WithPayload(s.Payload())
	p.Frame[p.l4+13] |= FlagURG
	binary.BigEndian.PutUint16(p.Frame[p.l4+18:], pointer)
	p.finish()
	return p
}

// Unscaled is a copy of the segment without the option that scales windows (RFC
// 7323 section 2).
func (s Segment) Unscaled() Segment {
	const end, nop, scale = 0, 1, 3
	p := s.WithPayload(s.Payload())
	for options := p.Frame[p.l4+20 : p.data]; len(options) > 0 && options[0] != end; {
		n := 1
		if options[0] != nop {
			if n = max(int(options[min(1, len(options)-1)]), 2); n > len(options) {
				break
			}
		}
		if options[0] == scale {
			copy(options[:n], []byte{nop, nop, nop})
		}
		options = options[n:]
	}
	p.finish()
	return p
}

// Flip is a copy of the segment with one bit of its payload changed and the
// checksum left.
func (s Segment) Flip(i, bit int) Segment { return s.flip(s.data+i, bit) }

func (s Segment) flip(offset, bit int) Segment {
	f := slices.Clone(s.Frame)
	f[offset] ^= 1 << bit
	return Segment{Frame: f, l4: s.l4, data: s.data, end: s.end}
}

// Intact says whether the checksum is right.
func (s Segment) Intact() bool {
	p := s.WithPayload(s.Payload())
	return slices.Equal(p.Frame[p.l4+16:p.l4+18], s.Frame[s.l4+16:s.l4+18])
}

// finish sets lengths and checksums.
func (s Segment) finish() {
	f := s.Frame
	if s.v6() {
		binary.BigEndian.PutUint16(f[ethernet+4:], uint16(s.end-s.l4))
	} else {
		binary.BigEndian.PutUint16(f[ethernet+2:], uint16(s.end-ethernet))
		f[ethernet+10], f[ethernet+11] = 0, 0
		binary.BigEndian.PutUint16(f[ethernet+10:], ^fold(sum(f[ethernet:s.l4])))
	}
	f[s.l4+16], f[s.l4+17] = 0, 0
	addresses := f[ethernet+12 : s.l4]
	if s.v6() {
		addresses = f[ethernet+8 : s.l4]
	}
	binary.BigEndian.PutUint16(f[s.l4+16:], ^fold(sum(addresses)+6+uint32(s.end-s.l4)+sum(f[s.l4:s.end])))
}

// sum is the one's complement sum of 16-bit words (RFC 1071), not folded; b is
// at most 64 KiB.
func sum(b []byte) uint32 {
	var n uint32
	for ; len(b) > 1; b = b[2:] {
		n += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) > 0 {
		n += uint32(b[0]) << 8
	}
	return n
}

func fold(n uint32) uint16 {
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
