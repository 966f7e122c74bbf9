package delivery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// spooling is a function with a spool whose pod can be switched off.
type spooling struct {
	*bench
	ctx context.Context // of the program, as long as it runs
	end context.CancelFunc
	log bytes.Buffer

	mu       sync.Mutex
	up       chan struct{} // closed while connections to the pod can be had
	answer   func(subject string) exchange
	seen     []string // topics, in the order of requests
	ids      []string // their ce-ids
	outcomes []string // topic and outcome, of what clients have heard
}

func newSpooling(t *testing.T) *spooling {
	s := &spooling{bench: newBench(t, 2), up: make(chan struct{})}
	s.fn.Queue.Spool = &config.Spool{Dir: filepath.Join(t.TempDir(), "spool"), Bytes: 1 << 20}
	s.fn.Deadline = 10 * time.Minute
	s.start()
	return s
}

// start makes an engine, as a program that starts does.
func (s *spooling) start() {
	s.ctx, s.end = context.WithCancel(context.Background())
	s.e = New(&config.Config{Functions: []*config.Function{s.fn}}, s, Options{Logger: slog.New(slog.NewTextHandler(&s.log, nil))})
}

// configure has the function changed from now on, as a reload does: who drains its spool reads it meanwhile.
func (s *spooling) configure(change func(fn *config.Function)) {
	fn := *s.fn
	change(&fn)
	s.fn = &fn
	s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s)
}

func (s *spooling) restart() {
	s.stop()
	s.start()
}

// stop ends it; what is in memory is gone.
func (s *spooling) stop() {
	s.end()
	synctest.Wait()
	s.e.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes = nil
}

func (s *spooling) Acquire(ctx context.Context, _, _ string, _ []netip.AddrPort) (pool.Lease, error) {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	select {
	case <-up:
		return lease{s.do}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *spooling) do(ctx context.Context, req []byte) (*pool.Response, error) {
	subject := header(req, "ce-subject")
	s.mu.Lock()
	s.seen, s.ids = append(s.seen, subject), append(s.ids, header(req, "ce-id"))
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		return answers(200)(ctx, req)
	}
	return answer(subject)(ctx, req)
}

// respond has the function answer so from now on; nil: 200.
func (s *spooling) respond(answer func(subject string) exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func header(req []byte, name string) string {
	_, after, _ := bytes.Cut(req, []byte("\r\n"+name+": "))
	value, _, _ := bytes.Cut(after, []byte("\r\n"))
	return string(value)
}

func (s *spooling) serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.up)
}

// publish is a client's PUBLISH; it returns when its connection is read again.
func (s *spooling) publish(p *Publisher, m *request.Message) {
	d := p.Begin(s.ctx, s.route, m, nil)
	go func() {
		defer d.Release()
		o := d.Run()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outcomes = append(s.outcomes, m.Topic+" "+o.Name())
	}()
}

// publishAll is a client with room for one message under way that publishes so many.
func (s *spooling) publishAll(client string, n int, qos byte) *Publisher {
	p := s.e.NewPublisher(1, time.Minute, nil)
	for i := 1; i <= n; i++ {
		s.publish(p, message(client, i, qos))
	}
	return p
}

// message is one of a client, named after both.
func message(client string, n int, qos byte) *request.Message {
	return &request.Message{ClientID: client, Topic: fmt.Sprintf("%s/%02d", client, n), QoS: qos, Payload: []byte("payload")}
}

// settled waits until nothing happens, and returns what functions have seen and clients heard since the last time.
func (s *spooling) settled() (seen, outcomes []string) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, outcomes = s.seen, s.outcomes
	s.seen, s.outcomes = nil, nil
	slices.Sort(outcomes)
	return seen, outcomes
}

func (s *spooling) stat() (out SpoolStat) {
	s.e.EachSpool(func(x SpoolStat) { out = x })
	return out
}

// of are those of a client.
func of(client string, topics []string) (out []string) {
	for _, t := range topics {
		if strings.HasPrefix(t, client+"/") {
			out = append(out, t)
		}
	}
	return out
}

func topics(client string, from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("%s/%02d", client, i))
	}
	return out
}

// spoolTest runs a test in its own time.
func spoolTest(t *testing.T, f func(t *testing.T, s *spooling)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpooling(t)
		defer s.stop()
		f(t, s)
	})
}

// TestWaitingForRoomEncodesOnce: a message that waits for room in the spool is encoded once, however often it looks whether there is some; what
// it has for that counts with it among what waits outside of queues, and is gone when it has a place in its queue instead.
func TestWaitingForRoomEncodesOnce(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		room, taken := s.e.queues.of(s.fn.Name).spool.Load(), []string(nil)
		const record = 100_000
		for n := 0; room.Reserve(fmt.Sprint("other", n), record); n++ {
			taken = append(taken, fmt.Sprint("other", n))
		}
		m := message("c", 1, 1)
		m.Payload = bytes.Repeat([]byte("x"), record)
		x := &single{inSpool: inSpool{spool: room}}
		x.fn, x.m, x.id = s.fn, m, "1"
		if x.spill() || x.record != nil || len(x.encoded) <= record {
			t.Fatalf("%d bytes wait for room, %d have it", len(x.encoded), len(x.record))
		}
		first := &x.encoded[0]
		for range 100 {
			if x.spill() || &x.encoded[0] != first {
				t.Fatal("it is encoded again")
			}
		}
		for _, name := range taken {
			room.Cancel(name, record)
		}
		if !x.spill() || &x.record[0] != first || x.encoded != nil {
			t.Error("what has room is not what waited for it")
		}
		room.Cancel(m.ClientID, len(x.record))

		p := s.e.NewPublisher(1, time.Minute, nil)
		for n := 0; room.Reserve(fmt.Sprint("other", n), record); n++ {
			taken = append(taken, fmt.Sprint("other", n))
		}
		s.publish(p, message("c", 2, 1)) // has the client's place
		go s.publish(p, m)               // waits for one
		synctest.Wait()
		if n := s.e.outside.Load(); n <= 2*record {
			t.Errorf("%d bytes are counted outside of queues", n)
		}
		s.serve()
		synctest.Wait()
		if n := s.e.outside.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
}
