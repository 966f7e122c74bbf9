package transport

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"slices"

	"eproxy/internal/config"
)

// Listener opens the connections of one configured listener.
type Listener struct {
	proxies     []netip.Prefix
	credentials *credentials // nil: no TLS
	websocket   *websocketServer
}

// Warn is told of files that have changed and cannot be used.
type Warn func(message string, args ...any)

// New makes the Listener of a configuration, whose certificates it loads.
func New(l *config.Listener, warn Warn) (*Listener, error) {
	out := &Listener{proxies: l.Proxies}
	if l.Websocket {
		out.websocket = newWebsocketServer(l.Origins)
	}
	if l.TLS != nil {
		c, err := newCredentials(l.TLS, warn)
		if err != nil {
			return nil, err
		}
		out.credentials = c
	}
	return out, nil
}

// Stream is where a client's MQTT packets travel.
type Stream struct {
	// Conn is what they are read from and written to; nil: the TCP connection itself.
	Conn Conn
	// Early are bytes of them that were read from the TCP connection along with what came before.
	Early []byte
	// Remote is the client's address; invalid: that of the TCP connection.
	Remote netip.AddrPort
	// Certified says that the client's certificate was verified and names the user: Username, which
	// is empty if the certificate has no such part.
	Certified bool
	Username  string
	// Certificate is the client's; nil: none was asked for.
	Certificate *Certificate
}

// Conn carries packets: each Write is one of them, or several whole ones.
type Conn interface {
	io.ReadWriter
	// Finish tells the peer that nothing more follows. Nothing may be written then.
	Finish()
}

// Open reads and writes what comes before a client's first MQTT packet. The connection's deadlines are the
// caller's. Only ErrUntrusted, ErrHeader, ErrHandshake and ErrUpgrade say that the peer is at fault.
func (l *Listener) Open(tcp net.Conn) (*Stream, error) {
	s := &Stream{}
	c := tcp
	if len(l.proxies) > 0 {
		r := bufio.NewReaderSize(tcp, headerSize)
		var err error
		if s.Remote, err = readHeader(r); err != nil {
			return nil, err
		}
		s.Early, _ = r.Peek(r.Buffered())
		if l.credentials != nil || l.websocket != nil {
			c, s.Early = &begun{Conn: tcp, early: s.Early}, nil
		}
	}
	if l.credentials != nil {
		t, certificate, err := l.credentials.handshake(c)
		if err != nil {
			return nil, err
		}
		s.Certificate = certificate
		s.Username, s.Certified = l.credentials.username(t)
		c, s.Conn = t, encrypted{t}
	}
	if l.websocket != nil {
		w, err := l.websocket.upgrade(c)
		if err != nil {
			return nil, err
		}
		s.Conn = w
	}
	return s, nil
}

// Trusts says whether a peer may connect: everybody may, or those that may name others.
func (l *Listener) Trusts(peer netip.Addr) bool {
	peer = peer.Unmap().WithZone("")
	return len(l.proxies) == 0 || slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// begun is a connection of which some bytes were read already.
type begun struct {
	net.Conn
	early []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.early) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.early)
	b.early = b.early[n:]
	return n, nil
}
