package transport

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// headerSize is how many bytes are read at once where a PROXY header is expected: one of version 1 has at
// most 107, one of version 2 rarely more.
const headerSize = 256

// ErrHeader is that of a connection that does not begin with a PROXY header.
var ErrHeader = errors.New("PROXY header")

// readHeader reads a PROXY header, version 1 or 2, and returns the client's address. It is invalid where the
// proxy speaks for itself (LOCAL), or does not know (UNKNOWN).
func readHeader(r *bufio.Reader) (netip.AddrPort, error) {
	h, err := proxyproto.Read(r)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if h.Command.IsLocal() || h.TransportProtocol.IsUnspec() {
		return netip.AddrPort{}, nil
	}
	from, _, ok := h.TCPAddrs()
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%w: not of a TCP connection", ErrHeader)
	}
	a := from.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), nil
}
