package mochi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/crypto/bcrypt"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/pool"
	"eproxy/test/lib/await"
)

// stage is a server with one function, by two names: that of from/# lets publishers say who they are.
type stage struct {
	t      testing.TB
	counts counts // of what the server refused
	addr   string
	server *broker.Server
	front  *Server
	cfg    *config.Config
	pool   *pool.Standalone
	log    lockedBuffer
	mu     sync.Mutex
	got    []string // payloads
}

func newStage(t testing.TB, response http.HandlerFunc, grafter broker.Grafter, auth config.Auth, adapt ...func(*broker.Options)) *stage {
	t.Helper()
	s := &stage{t: t}
	fn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got = append(s.got, string(b))
		s.mu.Unlock()
		response(w, r)
	}))
	t.Cleanup(fn.Close)
	u, err := url.Parse("http://f.local/x")
	if err != nil {
		t.Fatal(err)
	}
	pods := []netip.AddrPort{netip.MustParseAddrPort(fn.Listener.Addr().String())}
	retry := config.Retry{Attempts: 2, Backoff: time.Millisecond, MaxBackoff: time.Millisecond}
	cfg := &config.Config{
		Listeners: []config.Listener{{Address: "127.0.0.1:0"}}, Auth: auth,
		Functions: []*config.Function{
			{Name: "f", URL: u, Concurrency: 8, Timeout: 2 * time.Second, Deadline: time.Minute, Pods: pods, Retry: retry},
			{Name: "from", URL: u, Concurrency: 8, Timeout: 2 * time.Second, Deadline: time.Minute, Pods: pods, Retry: retry, CloudEvents: config.CloudEvents{FromPublisher: true}},
		},
		Routes: []*config.Route{
			{Topic: "in/#", Filter: "in/#", Functions: []string{"f"}},
			{Topic: "$SYSTEM/#", Filter: "$SYSTEM/#", Functions: []string{"f"}},
			{Topic: "from/#", Filter: "from/#", Functions: []string{"from"}},
		},
		Limits: config.Limits{MaxPacketSize: samples.MaxPacket, InflightPerClient: 16},
	}
	p := pool.New(cfg.Functions)
	s.pool = p
	t.Cleanup(func() { _ = p.Close() })
	opts := broker.Options{Config: cfg, Engine: delivery.New(cfg, p, delivery.Options{}), Grafter: grafter, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
		Frontend: func(b *broker.Server) (broker.Frontend, error) {
			f, err := New(b)
			if err == nil {
				s.front = f.(*Server)
			}
			return f, err
		}, Recorder: &s.counts}
	for _, f := range adapt {
		f(&opts)
	}
	b, err := broker.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { _ = b.Serve(ctx) }()
	s.addr, s.server, s.cfg = b.Addresses()[0].String(), b, cfg
	return s
}

func (s *stage) payloads() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.got, ",")
}

func (s *stage) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return c
}

// v5 connects a paho client; deliveries come on the channel.
func (s *stage) v5(id string) (*paho.Client, chan *paho.Publish) {
	s.t.Helper()
	in := make(chan *paho.Publish, 10)
	c := paho.NewClient(paho.ClientConfig{Conn: s.dial(), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { in <- p.Packet; return true, nil }}})
	if _, err := c.Connect(context.Background(), &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c, in
}

var anonymous = config.Auth{AllowAnonymous: true}

// waitFor waits until something is true.
func (s *stage) waitFor(ok func() bool, otherwise string) {
	s.t.Helper()
	await.True(s.t, 20*time.Second, otherwise, ok)
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestResponseTopic(t *testing.T) {
	s := newStage(t, say("pong"), nil, anonymous)
	c, in := s.v5("r")
	ctx := context.Background()
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "replies"}}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Publish(ctx, &paho.Publish{Topic: "in/x", QoS: 1, Payload: []byte("ping"),
		Properties: &paho.PublishProperties{ResponseTopic: "replies", CorrelationData: []byte("42")}})
	if err != nil {
		t.Fatal(err)
	}
	p := <-in
	if string(p.Payload) != "pong" || string(p.Properties.CorrelationData) != "42" {
		t.Errorf("%q %q", p.Payload, p.Properties.CorrelationData)
	}
}

// TestRefusalReasonCode: MQTT 5 says no with a reason code and keeps the connection.
func TestRefusalReasonCode(t *testing.T) {
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, nil, anonymous)
	c, _ := s.v5("r")
	for _, qos := range []byte{1, 2} {
		r, err := c.Publish(context.Background(), &paho.Publish{Topic: "in/x", QoS: qos, Payload: []byte("p")})
		if r == nil || r.ReasonCode != 0x80 {
			t.Errorf("QoS %d: %+v, %v", qos, r, err)
		}
	}
}

func connect(t *testing.T, c net.Conn, keepAlive byte) {
	t.Helper()
	write(t, c, 0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, keepAlive, 0, 1, 'c')
	want(t, c, 0x20, 2, 0, 0)
}

func write(t *testing.T, c net.Conn, b ...byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, c net.Conn, b ...byte) {
	t.Helper()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != string(b) {
		t.Fatalf("got % x (%v), want % x", got, err, b)
	}
}

// TestQoS2ExactlyOnce: a repeated PUBLISH before PUBREL reaches the function once; after
// PUBREL the packet identifier is free again.
func TestQoS2ExactlyOnce(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c := s.dial()
	connect(t, c, 0)
	first := []byte{0x34, 9, 0, 4, 'i', 'n', '/', 'x', 0, 5, 'A'}
	again := append([]byte{0x3c}, first[1:]...)
	write(t, c, first...)
	want(t, c, 0x50, 2, 0, 5)
	write(t, c, again...)
	want(t, c, 0x50, 2, 0, 5)
	write(t, c, 0x62, 2, 0, 5)
	want(t, c, 0x70, 2, 0, 5)
	write(t, c, 0x34, 9, 0, 4, 'i', 'n', '/', 'x', 0, 5, 'B')
	want(t, c, 0x50, 2, 0, 5)
	if got := s.payloads(); got != "A,B" {
		t.Errorf("function got %s, want A,B", got)
	}
}

// own has an account, u with the password p, whose clients publish below their own identifier.
var own = config.Auth{Users: []config.User{user("u", "p", "in/%c/#")}}

// user is an account that may publish to these filters; to everything if there are none.
func user(name, password string, publish ...string) config.User {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return config.User{Username: name, PasswordHash: string(hash), Publish: publish}
}

// TestPlainMessagesNameNoBoundary: a client that publishes nothing to functions costs no call for each of its messages; from its first one to a
// function on, which it was seen to send, or the kernel path took, every boundary is named.
func TestPlainMessagesNameNoBoundary(t *testing.T) {
	for _, taken := range []bool{false, true} {
		f := &fakeGraft{closed: make(chan struct{})}
		s := newStage(t, say("ok"), f, anonymous)
		s.front.rest = time.Hour
		c := s.dial()
		connect(t, c, 0)
		id, end := byte(0), uint64(15)
		send := func(topic ...byte) uint64 {
			id++
			b := append(append([]byte{0x32, byte(5 + len(topic)), 0, byte(len(topic))}, topic...), 0, id, 'A')
			write(t, c, b...)
			want(t, c, 0x40, 2, 0, id)
			end += uint64(len(b))
			return end
		}
		last := func() uint64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.boundaries[len(f.boundaries)-1]
		}
		hello := end // there was none before
		for range 5 {
			send('x')
		}
		if got := last(); got != hello {
			t.Errorf("the boundary at %d was named, want none behind %d", got, hello)
		}
		if taken {
			f.mu.Lock()
			f.last = time.Now()
			f.mu.Unlock()
		} else {
			send('i', 'n', '/', 'x')
		}
		for range 2 {
			at := send('x')
			s.waitFor(func() bool { return last() == at }, "the boundary behind a message is not named")
		}
	}
}

// login is CONNECT of client c as u with the password p.
func login(version byte) string {
	id := samples.String("c")
	if version == 5 {
		id = samples.Properties() + id
	}
	return samples.Connect(version, 0xc2, id, samples.String("u"), samples.String("p"))
}

// TestPublishPermissions: nobody publishes where he may not.
func TestPublishPermissions(t *testing.T) {
	s := newStage(t, say("ok"), nil, own)
	c := s.dial()
	write(t, c, []byte(login(4))...)
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, 0x32, 11, 0, 6, 'i', 'n', '/', 'c', '/', 'x', 0, 1, 'A')
	want(t, c, 0x40, 2, 0, 1)
	write(t, c, 0x32, 11, 0, 6, 'i', 'n', '/', 'd', '/', 'x', 0, 2, 'B')
	// MQTT 3.1.1 has no other response than to close; the library says DISCONNECT first.
	if b, _ := io.ReadAll(c); len(b) > 0 && string(b) != "\xe0\x00" {
		t.Errorf("answered % x", b)
	}
	if got := s.payloads(); got != "A" {
		t.Errorf("function got %q", got)
	}
}

// fakeGraft is a kernel path that only reports.
type fakeGraft struct {
	mu         sync.Mutex
	info       broker.ConnInfo
	boundaries []uint64
	aliases    []string // what was said of them, and at how many boundaries before
	last       time.Time
	asked      int // how often LastReceive was called
	stopped    int
	closed     chan struct{}
	taken      uint16 // packet identifier of a message under way on the kernel path
	reused     uint16 // one that is another message's by the time that its own ends
	released   []broker.Hold
}

func (f *fakeGraft) Established(c broker.ConnInfo) broker.Graft { f.info = c; return f }
func (f *fakeGraft) Boundary(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boundaries = append(f.boundaries, n)
}
func (f *fakeGraft) LastReceive() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.last
}
func (f *fakeGraft) Clear(uint64) bool      { return true }
func (f *fakeGraft) Behind()                {}
func (f *fakeGraft) Copies() uint32         { return 0 }
func (f *fakeGraft) Granted(string, uint32) {}
func (f *fakeGraft) Alias(n uint16, topic string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.aliases = append(f.aliases, fmt.Sprintf("%d=%s behind %d", n, topic, len(f.boundaries)))
}
func (f *fakeGraft) Hold(id uint16, dup bool) (broker.Hold, bool) {
	if dup && id == f.taken {
		return broker.NoHold, true
	}
	return broker.Hold(id), false
}
func (f *fakeGraft) Release(h broker.Hold) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.released = append(f.released, h)
	return h != broker.Hold(f.reused)
}
func (f *fakeGraft) Authorize(rights uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.info.Rights = rights
}
func (f *fakeGraft) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped++
}
func (f *fakeGraft) Close() { close(f.closed) }

// TestKeepAliveCountsTaken: what the kernel path takes counts for the keep-alive; when it
// takes nothing more, the client is thrown out.
func TestKeepAliveCountsTaken(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	began := time.Now()
	connect(t, c, 1) // thrown out after 1.5 s of silence
	f.mu.Lock()
	f.last = began.Add(2 * time.Second) // as if a message were taken then
	f.mu.Unlock()
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("got % x", b)
	}
	if d := time.Since(began); d < 3*time.Second {
		t.Errorf("thrown out after %s, although the kernel path heard of it at 2s", d)
	}
	<-f.closed
}

// TestBoundariesOfCutPackets: however packets are cut, each boundary that the server waits
// at is one of the stream, and the last one is its end.
func TestBoundariesOfCutPackets(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	connect(t, c, 0)
	if f.info.Read != 15 || !f.info.AtBoundary || f.info.Version != 4 || f.info.Rights != 1 {
		t.Errorf("established with %+v", f.info)
	}
	var stream []byte
	ends := map[uint64]bool{15: true}
	for i := range 50 {
		stream = append(stream, 0x32, byte(9+i%3), 0, 4, 'i', 'n', '/', 'x', 0, byte(i+1))
		stream = append(stream, "ABC"[:1+i%3]...)
		ends[15+uint64(len(stream))] = true
	}
	for i := 0; i < len(stream); {
		n := min(1+i*7%23, len(stream)-i)
		write(t, c, stream[i:i+n]...)
		i += n
	}
	write(t, c, 0xc0, 0)
	acks, total := 0, 50*4+2
	b := make([]byte, total)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	for _, x := range b {
		if x == 0x40 {
			acks++
		}
	}
	if acks < 50 {
		t.Errorf("%d PUBACKs", acks)
	}
	ends[15+uint64(len(stream))+2] = true
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.boundaries {
		if !ends[n] {
			t.Errorf("%d is no packet boundary", n)
		}
	}
	if n := f.boundaries[len(f.boundaries)-1]; n != 15+uint64(len(stream))+2 {
		t.Errorf("last boundary %d, want %d", n, 15+len(stream)+2)
	}
}

// TestTakenMessagesAckedAlike: the kernel path's messages are acknowledged by the same rules.
func TestTakenMessagesAckedAlike(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	connect(t, c, 0)
	f.info.Complete(0x1234, broker.NoHold, delivery.Outcome{Acked: true})
	want(t, c, 0x40, 2, 0x12, 0x34)
	f.info.Complete(0, broker.NoHold, delivery.Outcome{}) // QoS 0: nothing to say
	f.info.Complete(2, broker.NoHold, delivery.Outcome{Err: fmt.Errorf("failed")})
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("got % x", b)
	}
}

// TestInterruptedIsNotAcknowledged: what the server's end interrupts is neither acknowledged nor
// refused, so that the client keeps it.
func TestInterruptedIsNotAcknowledged(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	write(t, c, 0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 1, 'c')
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != 0x20 {
		t.Fatalf("got % x (%v), want CONNACK", head, err)
	}
	if _, err := io.ReadFull(c, make([]byte, head[1])); err != nil {
		t.Fatal(err)
	}
	f.info.Complete(1, broker.NoHold, delivery.Outcome{Interrupted: true, ReasonCode: delivery.CodeUnspecified})
	f.info.Complete(2, broker.NoHold, delivery.Outcome{Acked: true})
	want(t, c, 0x40, 2, 0, 2)
}

// TestExpiredMessage: a message that expires while it waits goes to no function and is
// acknowledged; one that does not says how long it has left.
func TestExpiredMessage(t *testing.T) {
	release := make(chan struct{})
	left := make(chan string, 100)
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		left <- r.Header.Get("X-Mqtt-Expiry")
		<-release
	}, nil, anonymous)
	busy, _ := s.v5("busy")
	ctx := context.Background()
	for range s.cfg.Functions[0].Concurrency {
		go func() { _, _ = busy.Publish(ctx, &paho.Publish{Topic: "in/x", QoS: 1, Payload: []byte("busy")}) }()
		<-left
	}
	c, _ := s.v5("c")
	expiry := uint32(1)
	r, err := c.Publish(ctx, &paho.Publish{Topic: "in/x", QoS: 1, Payload: []byte("late"), Properties: &paho.PublishProperties{MessageExpiry: &expiry}})
	if err != nil || r.ReasonCode != 0 {
		t.Errorf("acknowledged with %+v, %v", r, err)
	}
	if strings.Contains(s.payloads(), "late") {
		t.Error("the message reached its function")
	}
	close(release)
	expiry = 3600
	if _, err := c.Publish(ctx, &paho.Publish{Topic: "in/x", QoS: 1, Properties: &paho.PublishProperties{MessageExpiry: &expiry}}); err != nil {
		t.Fatal(err)
	}
	got := <-left
	if n, err := strconv.Atoi(got); err != nil || n < 1 || n > 3600 {
		t.Errorf("X-Mqtt-Expiry is %q", got)
	}
}

// TestRejectedIsNotSentAgain: a message that its function will never have: MQTT 5 says so, MQTT 3.1.1 cannot, and would
// send it again for ever.
func TestRejectedIsNotSentAgain(t *testing.T) {
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(422) }, nil, anonymous, func(o *broker.Options) {
		o.Config.Functions[0].Retry.Final = []int{422}
	})
	c, _ := s.v5("r")
	r, err := c.Publish(context.Background(), &paho.Publish{Topic: "in/x", QoS: 1, Payload: []byte("p")})
	if r == nil || r.ReasonCode != 0x83 {
		t.Errorf("MQTT 5: %+v, %v", r, err)
	}
	old := s.dial()
	connect(t, old, 0)
	write(t, old, 0x32, 9, 0, 4, 'i', 'n', '/', 'x', 0, 1, 'A')
	want(t, old, 0x40, 2, 0, 1)
	if got := s.payloads(); got != "p,A" {
		t.Errorf("the function got %s, want each once", got)
	}
	if n := s.counts.ended("rejected"); n != 2 {
		t.Errorf("%d counted as rejected, want 2", n)
	}
}

// TestPingNamesNoBoundary: a client that only sends PINGREQ costs no call for each of them, and what it sends next is named.
func TestPingNamesNoBoundary(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	s.front.rest = 0
	c := s.dial()
	connect(t, c, 0)
	const hello, pings = 15, 5
	for range pings {
		write(t, c, 0xc0, 0)
		want(t, c, 0xd0, 0)
	}
	write(t, c, 0x32, 7, 0, 1, 'x', 0, 1, 'A', 'B')
	want(t, c, 0x40, 2, 0, 1)
	end := uint64(hello + pings*pingSize + 9)
	s.waitFor(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.boundaries) > 0 && f.boundaries[len(f.boundaries)-1] == end
	}, "the boundary behind the message is not named")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.boundaries {
		if n > hello && n < end {
			t.Errorf("the boundary at %d, behind a PINGREQ, was named: %v", n, f.boundaries)
		}
	}
}
