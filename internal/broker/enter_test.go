package broker

import (
	"context"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// noConnection is a pool without a free connection.
type noConnection struct{}

func (noConnection) Acquire(ctx context.Context, _, _ string, _ []netip.AddrPort) (pool.Lease, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// waits is a frontend whose subscribers' copies of late messages wait to be handed over.
type waits struct {
	nobody
	until chan struct{}
}

func (w waits) Copy(m *request.Message) error {
	if m.Topic == "late" {
		<-w.until
	}
	return nil
}

// notedPeer notes what its client is answered.
type notedPeer struct {
	Peer
	mu       sync.Mutex
	answered []byte // reason codes of acknowledgements
	ended    bool
}

func (p *notedPeer) Settle()      {}
func (p *notedPeer) Abort()       {}
func (p *notedPeer) Closed() bool { return false }
func (p *notedPeer) Disconnect(byte, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// over says whether the client was disconnected.
func (p *notedPeer) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

func (p *notedPeer) Acknowledge(_ uint16, _, code byte, _ *pool.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = append(p.answered, code)
	return nil
}

// outcomes notes how messages ended, and what was refused.
type outcomes struct {
	mu      sync.Mutex
	names   []string
	refused []string
}

// count is how often something was refused for a reason.
func (o *outcomes) count(reason string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.refused {
		if r == reason {
			n++
		}
	}
	return n
}

func (o *outcomes) Request(string, string, int) {}
func (o *outcomes) DeadLetter(string)           {}
func (o *outcomes) Refused(reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = append(o.refused, reason)
}
func (o *outcomes) Message(_, _ string, _ byte, outcome string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names = append(o.names, outcome)
}

// lateServer is a server with one function that is down, and one place in its queue for each client.
type lateServer struct {
	*Server
	ended outcomes
	until chan struct{} // closed to let late messages on
	file  string        // of dead letters
}

func newLateServer(t *testing.T) *lateServer {
	t.Helper()
	l := &lateServer{until: make(chan struct{}), file: filepath.Join(t.TempDir(), "dead.jsonl")}
	u, err := url.Parse("http://f.local/x")
	if err != nil {
		t.Fatal(err)
	}
	cfg := mayDo()
	cfg.Functions = []*config.Function{{Name: "f", URL: u, Deadline: time.Hour, Retry: config.Retry{Attempts: 1}, DeadLetter: &config.DeadLetter{File: l.file}}}
	cfg.Routes = []*config.Route{{Filter: "#", Functions: []string{"f"}, AlsoBroker: true}}
	l.Server, err = New(Options{Config: cfg, Engine: delivery.New(cfg, noConnection{}, delivery.Options{}), Recorder: &l.ended,
		Frontend: func(*Server) (Frontend, error) { return waits{until: l.until}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lateServer) open(t *testing.T, version byte) (*Session, *notedPeer) {
	p := &notedPeer{}
	id := Identity{ClientID: "c", Username: "dev", Account: accountOf(t, l.Config(), "dev"), Remote: netip.MustParseAddrPort("192.0.2.1:1")}
	return l.Open(id, &Connect{ClientID: "c", Version: version, KeepAlive: time.Hour}, p, nil), p
}

// TestLateMessageIsCounted: what waits for its place as its session ends, or may not be published any more, has an outcome like any other.
func TestLateMessageIsCounted(t *testing.T) {
	for name, end := range map[string]func(s *Server, x *Session){
		"session over":   func(_ *Server, x *Session) { x.Stop() },
		"rights changed": func(_ *Server, x *Session) { x.mu.Lock(); x.rights = rights{}; x.mu.Unlock() },
	} {
		for _, expired := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLateServer(t)
					x, _ := l.open(t, 5)
					l.Publish(x, &request.Message{Topic: "first"}) // has the place
					m := &request.Message{Topic: "late"}
					want := "interrupted"
					if expired {
						m.Expires, want = time.Now(), "expired"
					} else if name == "rights changed" {
						x, _ = l.open(t, 5) // with a place
					}
					go l.Publish(x, m)
					synctest.Wait()
					end(l.Server, x)
					close(l.until)
					synctest.Wait()
					l.ended.mu.Lock()
					if !slices.Contains(l.ended.names, want) {
						t.Errorf("ended: %q, want one %s", l.ended.names, want)
					}
					l.ended.mu.Unlock()
					l.Close()
				})
			})
		}
	}
}

// TestAcknowledgementIsWrittenFirst: a message is under way, so that who drains waits for it, until its acknowledgement is written.
func TestAcknowledgementIsWrittenFirst(t *testing.T) {
	l := newLateServer(t)
	defer l.Close()
	x, peer := l.open(t, 5)
	m, route := &request.Message{Topic: "t", QoS: 1, PacketID: 7}, l.Config().Routes[0]
	p, _, _ := l.pending.begin(x, m, l.opts.Engine.NextID)
	f := &flight{server: l.Server, session: x, pending: p, delivery: x.queued.Begin(l.ctx, route, m, nil), message: m, route: route}
	var b pool.Batch
	f.Ended(delivery.Outcome{Acked: true}, &b)
	if n := l.pending.open.Load(); n != 1 || len(peer.answered) != 1 {
		t.Errorf("%d under way while %d acknowledgements are to be written", n, len(peer.answered))
	}
	b.Flush()
	if n := l.pending.open.Load(); n != 0 {
		t.Errorf("%d under way in the end", n)
	}
}

// TestLateMessageOfAnotherSession: a message that its client repeats on its next connection, while the one before still
// has it, is answered there: by its outcome, or, if there is none, so that the client sends it again.
func TestLateMessageOfAnotherSession(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for _, expired := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				l := newLateServer(t)
				x, _ := l.open(t, version)
				l.Publish(x, &request.Message{Topic: "first"})
				m := request.Message{Topic: "late", QoS: 1, PacketID: 7}
				if expired {
					m.Expires = time.Now()
				}
				again := m
				again.Dup = true
				go l.Publish(x, &m)
				synctest.Wait()
				y, peer := l.open(t, version)
				l.Publish(y, &again)
				close(l.until)
				synctest.Wait()
				peer.mu.Lock()
				if answered := slices.Equal(peer.answered, []byte{CodeSuccess}); answered != expired || peer.ended == expired {
					t.Errorf("version %d, dead letter %v: acknowledged with %v, disconnected: %v", version, expired, peer.answered, peer.ended)
				}
				peer.mu.Unlock()
				if _, err := os.Stat(l.file); (err == nil) != expired {
					t.Errorf("dead letter: %v", err)
				}
				l.Close()
			})
		}
	}
}
