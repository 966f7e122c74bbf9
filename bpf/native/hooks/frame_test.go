//go:build cgo

package hooks

import (
	"encoding/binary"
	"fmt"
)

// TCP flags.
const (
	fin = 1
	syn = 2
	rst = 4
	psh = 8
	ack = 16
)

const headers = 14 + 20 + 20

// end is one end of a connection.
type end struct {
	ip   [4]byte
	port uint16
}

// segment is a TCP segment in an Ethernet frame.
type segment struct {
	from, to end
	seq, ack uint32
	flags    byte
	wnd      uint16
	data     []byte
}

func sum16(b []byte, sum uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func tcpSum(b []byte) uint16 {
	return fold(sum16(b[34:], sum16(b[26:34], 6+uint32(len(b)-34))))
}

// frame is the segment as bytes.
func (s segment) frame() []byte {
	b := make([]byte, headers+len(s.data))
	b[12] = 8
	ip := b[14:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(40+len(s.data)))
	ip[6] = 0x40
	ip[8] = 64
	ip[9] = 6
	copy(ip[12:], s.from.ip[:])
	copy(ip[16:], s.to.ip[:])
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum16(ip[:20], 0)))
	t := b[34:]
	binary.BigEndian.PutUint16(t, s.from.port)
	binary.BigEndian.PutUint16(t[2:], s.to.port)
	binary.BigEndian.PutUint32(t[4:], s.seq)
	binary.BigEndian.PutUint32(t[8:], s.ack)
	t[12] = 5 << 4
	t[13] = s.flags
	binary.BigEndian.PutUint16(t[14:], s.wnd)
	copy(t[20:], s.data)
	binary.BigEndian.PutUint16(t[16:], ^tcpSum(b))
	return b
}

// parse reads a frame that left, or was passed on; all its checksums must be right.
func parse(b []byte) (s segment, err error) {
	if len(b) < headers || b[12] != 8 || b[13] != 0 || b[14] != 0x45 || b[23] != 6 || b[46]>>4 != 5 {
		return s, fmt.Errorf("not a plain TCP segment: % x", b[:min(len(b), headers)])
	}
	total := int(binary.BigEndian.Uint16(b[16:]))
	if 14+total > len(b) {
		return s, fmt.Errorf("IP length %d in a frame of %d", total, len(b))
	}
	b = b[:14+total]
	if fold(sum16(b[14:34], 0)) != 0xffff {
		return s, fmt.Errorf("wrong IP checksum")
	}
	if tcpSum(b) != 0xffff {
		return s, fmt.Errorf("wrong TCP checksum")
	}
	copy(s.from.ip[:], b[26:])
	copy(s.to.ip[:], b[30:])
	s.from.port = binary.BigEndian.Uint16(b[34:])
	s.to.port = binary.BigEndian.Uint16(b[36:])
	s.seq = binary.BigEndian.Uint32(b[38:])
	s.ack = binary.BigEndian.Uint32(b[42:])
	s.flags = b[47]
	s.wnd = binary.BigEndian.Uint16(b[48:])
	s.data = b[headers:]
	return s, nil
}

// tupleOf is the key of a connection: local is us.
func tupleOf(local, remote end) (t Tuple) {
	put := func(dst []u32, ip [4]byte) {
		dst[2] = u32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))
		dst[3] = u32(binary.NativeEndian.Uint32(ip[:]))
	}
	put(t.local[:], local.ip)
	put(t.remote[:], remote.ip)
	t.local_port = u16(local.port<<8 | local.port>>8)
	t.remote_port = u16(remote.port<<8 | remote.port>>8)
	return t
}
