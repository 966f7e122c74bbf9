package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
)

const (
	// dialTimeout is how long a broker may take to accept a connection, TLS included.
	dialTimeout = 3 * time.Second
	// lookInterval is between two looks at a broker that is down.
	lookInterval = 2 * time.Second
	// deafTimeout is how long a broker's host may leave unacknowledged what was sent to it.
	deafTimeout = 30 * time.Second
)

// backend is one of the brokers.
type backend struct {
	config.BrokerServer
	tls     *tls.Config // nil: without
	down    atomic.Bool
	clients atomic.Int64 // that it has let in
}

// backends are the brokers behind this server.
type backends struct {
	all []*backend
	log *slog.Logger
	ctx context.Context
	wg  sync.WaitGroup
}

func newBackends(ctx context.Context, cfg *config.Broker, log *slog.Logger) (*backends, error) {
	b := &backends{log: log, ctx: ctx}
	var roots *x509.CertPool // nil: the system's
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("broker.ca: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("broker.ca: %s has no certificate in PEM", cfg.CA)
		}
	}
	for _, s := range cfg.Servers {
		n := &backend{BrokerServer: s}
		if s.TLS {
			host, _, _ := net.SplitHostPort(s.Address)
			n.tls = &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}
		}
		b.all = append(b.all, n)
	}
	return b, nil
}

// order are the brokers for a client: by rendezvous hashing, so that each client has one of its own and, where that is
// down, always the same next one, whoever hashes; those that are up first.
func (b *backends) order(client string) []*backend {
	weight := func(n *backend) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(client + "\x00" + n.Address))
		x := h.Sum64() // its last bytes have hardly changed the upper bits yet
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		return x ^ x>>33
	}
	out := slices.Clone(b.all)
	slices.SortStableFunc(out, func(x, y *backend) int { return cmp.Compare(weight(y), weight(x)) })
	slices.SortStableFunc(out, func(x, y *backend) int { return cmp.Compare(rank(x), rank(y)) })
	return out
}

func rank(n *backend) int {
	if n.down.Load() {
		return 1
	}
	return 0
}

// dial connects to a broker.
func (n *backend) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := net.Dialer{Control: upstreamOptions}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", n.Address)
	if err != nil || n.tls == nil {
		return c, err
	}
	t := tls.Client(c, n.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t, nil
}

func upstreamOptions(_, _ string, rc syscall.RawConn) error {
	var inner error
	err := rc.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deafTimeout.Milliseconds()))
	})
	return errors.Join(err, inner)
}

// failed notes that a broker cannot be used, and has it looked at until it can.
func (b *backends) failed(n *backend, err error) {
	if b.ctx.Err() != nil || n.down.Swap(true) {
		return
	}
	b.log.Warn("broker cannot be used, its clients go to the next one, if there is one", "broker", n.Address, "error", err)
	b.wg.Go(func() { b.watch(n) })
}

// watch ends when the broker accepts connections again.
func (b *backends) watch(n *backend) {
	t := time.NewTicker(lookInterval)
	defer t.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-t.C:
		}
		if c, err := n.dial(b.ctx); err == nil {
			_ = c.Close()
			n.down.Store(false)
			b.log.Info("broker can be used again", "broker", n.Address)
			return
		}
	}
}
