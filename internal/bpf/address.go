package bpf

import (
	"encoding/binary"
	"net/netip"
)

// TupleOf is a connection's key in the flows map.
func TupleOf(local, remote netip.AddrPort) EproxyTuple {
	return EproxyTuple{Local: Address(local.Addr()), Remote: Address(remote.Addr()),
		LocalPort: Port(local.Port()), RemotePort: Port(remote.Port())}
}

// Address is in network byte order, IPv4 as a mapped address.
func Address(a netip.Addr) (out [4]uint32) {
	b := a.As16()
	for i := range out {
		out[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

// Port converts to network byte order.
func Port(p uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(p >> 8), byte(p)})
}

// Flag is a truth value as the programs' structs have it.
func Flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
