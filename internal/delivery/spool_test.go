package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/test/lib/bubble"
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

// TestSpoolOverOutage: while a function is down, what its queue has no place for is acknowledged when it is on disk; a restart of the program in
// between takes nothing of it, nor its ce-ids; then all is delivered, each client's in its order, and what comes meanwhile behind it.
func TestSpoolOverOutage(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		const each = 12
		clients := map[string]*Publisher{"a": nil, "b": nil}
		first := func(c string, qos byte) {
			clients[c] = s.e.NewPublisher(2, time.Minute, nil)
			for i := 1; i <= each; i++ {
				s.publish(clients[c], message(c, i, qos))
			}
		}
		first("a", 1)
		first("b", 0)
		seen, heard := s.settled()
		if len(seen) > 0 || len(heard) != 2*(each-2) || slices.ContainsFunc(heard, func(o string) bool { return !strings.HasSuffix(o, " spooled") }) {
			t.Fatalf("while the function is down: it has seen %q, clients have heard %q", seen, heard)
		}
		if st := s.stat(); !st.Usable || st.Messages != 2*(each-2) || st.Put != uint64(st.Messages) || st.Bytes == 0 {
			t.Errorf("in the spool: %+v", st)
		}
		s.restart() // what was in memory was acknowledged to nobody
		if st := s.stat(); st.Messages != 2*(each-2) {
			t.Errorf("in the spool after the restart: %+v", st)
		}
		for c := range clients {
			clients[c] = s.e.NewPublisher(2, time.Minute, nil)
			s.publish(clients[c], message(c, each+1, 1)) // it follows
		}
		s.serve()
		seen, _ = s.settled()
		for c := range clients {
			if got, want := of(c, seen), topics(c, 3, each+1); !slices.Equal(got, want) {
				t.Errorf("client %s: the function has seen %q, want %q", c, got, want)
			}
			s.publish(clients[c], message(c, each+2, 1))
		}
		if _, heard := s.settled(); !slices.Contains(heard, "a/14 delivered") || !slices.Contains(heard, "b/14 delivered") {
			t.Errorf("with an empty spool: %q", heard)
		}
		if st := s.stat(); st.Messages != 0 || st.Bytes != 0 || st.Ended["delivered"] != 2*(each-1) {
			t.Errorf("at the end in the spool: %+v", st)
		}
	})
}

// TestSpoolKeepsID: every attempt for a message, before and after a restart, has the same ce-id, and what else its publisher gave it.
func TestSpoolKeepsID(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		s.configure(func(fn *config.Function) { fn.Retry.Attempts = 1 })
		s.respond(func(string) exchange { return answers(503) })
		s.serve()
		var request1 []byte
		m := message("c", 1, 1)
		m.Username, m.Version, m.ContentType, m.PayloadFormat, m.Retain, m.Dup = "u", 5, "text/plain", 1, true, true
		m.UserProperties = []request.UserProperty{{Name: "k", Value: "v"}}
		m.MessageExpiry, m.Expires = 86400, time.Now().Add(24*time.Hour)
		s.publish(s.e.NewPublisher(2, time.Minute, nil), m)
		if _, heard := s.settled(); !slices.Equal(heard, []string{"c/01 spooled"}) {
			t.Fatalf("a message that its function has answered 503: %q", heard)
		}
		s.restart()
		s.respond(func(string) exchange {
			return func(ctx context.Context, req []byte) (*pool.Response, error) {
				request1 = bytes.Clone(req)
				return answers(200)(ctx, req)
			}
		})
		bubble.Pass(t, time.Minute)
		s.settled()
		if len(s.ids) < 2 || slices.ContainsFunc(s.ids, func(id string) bool { return id != s.ids[0] || id == "" }) {
			t.Errorf("ce-ids of a message: %q", s.ids)
		}
		m.Expires = time.Now().Add(24 * time.Hour)
		for _, h := range []string{"ce-source: eproxy/c", "X-Mqtt-Username: u", "Content-Type: text/plain", "X-Mqtt-Retain: 1", "X-Mqtt-Dup: 1", "X-Mqtt-Expiry: 86"} {
			if !bytes.Contains(request1, []byte("\r\n"+h)) {
				t.Errorf("%s is missing in\n%s", h, request1)
			}
		}
	})
}

// TestSpoolAfterDeadline: a message whose deadline passes, and one that gives way to others, is in the spool, before what came after it.
func TestSpoolAfterDeadline(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(2, time.Minute, nil)
		for i := 1; i <= 4; i++ {
			s.publish(p, message("c", i, 1))
		}
		bubble.Pass(t, s.fn.Deadline)
		if _, heard := s.settled(); !slices.Equal(heard, []string{"c/01 spooled", "c/02 spooled", "c/03 spooled", "c/04 spooled"}) {
			t.Errorf("after the deadline: %q", heard)
		}
		s.serve()
		bubble.Pass(t, time.Minute)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 4)) {
			t.Errorf("the function has seen %q", seen)
		}
		if l := s.letters(); len(l) > 0 {
			t.Errorf("dead letters: %+v", l)
		}
	})
}

// TestSpoolIsFair: one client cannot have it all, and one that finds no room is not read until there is some; nothing is lost.
func TestSpoolIsFair(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		big := func(client string, n int) *request.Message {
			m := message(client, n, 1)
			m.Payload = make([]byte, 40<<10)
			return m
		}
		flood := func(client string) (n func() int) {
			p := s.e.NewPublisher(1, time.Hour, nil)
			var mu sync.Mutex
			read := 0
			go func() {
				for i := 1; i <= 60; i++ {
					s.publish(p, big(client, i))
					mu.Lock()
					read = i
					mu.Unlock()
				}
			}()
			return func() int { mu.Lock(); defer mu.Unlock(); return read }
		}
		a := flood("a")
		synctest.Wait()
		most := s.stat()
		if most.Bytes > 1<<19 || most.Bytes < 1<<18 || most.Refused[0] == 0 || a() == 60 {
			t.Errorf("one client has %d bytes of 1 MiB, and %d messages were read", most.Bytes, a())
		}
		b := flood("b")
		synctest.Wait()
		if all := s.stat(); all.Bytes <= most.Bytes || all.Bytes > 1<<20 || b() < 5 {
			t.Errorf("of another client %d messages were read; %d bytes", b(), all.Bytes)
		}
		s.serve()
		bubble.Pass(t, time.Minute)
		seen, _ := s.settled()
		for _, c := range []string{"a", "b"} {
			if got := of(c, seen); !slices.Equal(got, topics(c, 1, 60)) {
				t.Errorf("client %s: %q", c, got)
			}
		}
	})
}

// TestSpoolPoison: a message that its function refuses becomes a dead letter, and so does one that it never answers while it serves others; what is
// behind them in the spool is delivered.
func TestSpoolPoison(t *testing.T) {
	for name, c := range map[string]struct {
		bad         exchange
		least, most int // requests: pauses between them are by chance
	}{
		"refused":  {answers(400), 1, 1},
		"error":    {answers(500), 2, 2},
		"no reply": {fails(errReset), 2 * (unservedRounds + 2), 2 * (unservedRounds + 6)},
	} {
		t.Run(name, func(t *testing.T) {
			spoolTest(t, func(t *testing.T, s *spooling) {
				s.configure(func(fn *config.Function) { fn.Retry.Final = []int{400} })
				p, q := s.e.NewPublisher(1, time.Minute, nil), s.e.NewPublisher(1, time.Minute, nil)
				for i := 1; i <= 4; i++ {
					s.publish(p, message("p", i, 1))
				}
				synctest.Wait()
				s.respond(func(subject string) exchange {
					if subject == "p/02" {
						return c.bad
					}
					return answers(200)
				})
				s.serve()
				for i := range 90 { // others are served all the time
					bubble.Pass(t, 5*time.Second)
					s.publish(q, message("q", i, 1))
				}
				seen, _ := s.settled()
				got := of("p", seen)
				if n := len(got) - 3; n < c.least || n > c.most || !slices.Equal(slices.Compact(got), topics("p", 1, 4)) {
					t.Errorf("the function has seen %d of p/02: %q", n, got)
				}
				if l := s.letters(); len(l) != 1 || l[0].Topic != "p/02" {
					t.Errorf("dead letters: %+v", l)
				}
				if st := s.stat(); st.Messages != 0 || st.Ended["dead_letter"] != 1 {
					t.Errorf("in the spool: %+v", st)
				}
			})
		})
	}
}

// TestSpoolLongOutage: a function that answers nobody has an outage, however long: nothing becomes a dead letter.
func TestSpoolLongOutage(t *testing.T) {
	for name, down := range map[string]exchange{"503": answers(503), "no answer": fails(errReset), "timeout": hangs} {
		t.Run(name, func(t *testing.T) {
			spoolTest(t, func(t *testing.T, s *spooling) {
				s.respond(func(string) exchange { return down })
				s.serve()
				p := s.e.NewPublisher(1, time.Minute, nil)
				for i := 1; i <= 3; i++ {
					s.publish(p, message("c", i, 1))
				}
				bubble.Pass(t, 24*time.Hour)
				s.settled()
				s.respond(nil)
				bubble.Pass(t, 2*time.Minute)
				if seen, _ := s.settled(); !slices.Equal(seen[max(0, len(seen)-3):], topics("c", 1, 3)) || s.stat().Messages != 0 || len(s.letters()) > 0 {
					t.Errorf("the function has seen %q, %d stay in the spool, dead letters %+v", seen, s.stat().Messages, s.letters())
				}
			})
		})
	}
}

// TestSpoolAtMostOnce: a message of QoS 0 whose attempt had no answer is not tried again, also when it comes from the spool.
func TestSpoolAtMostOnce(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(1, time.Minute, nil)
		for i := 1; i <= 3; i++ {
			s.publish(p, message("c", i, 0))
		}
		synctest.Wait()
		s.respond(func(string) exchange { return fails(errReset) })
		s.serve()
		bubble.Pass(t, time.Hour)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 3)) || s.stat().Messages != 0 {
			t.Errorf("the function has seen %q, in the spool is %+v", seen, s.stat())
		}
	})
}

// TestSpoolExpiry: what expires in the spool goes to no function.
func TestSpoolExpiry(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(1, time.Hour, nil)
		for i := 1; i <= 3; i++ {
			m := message("c", i, 1)
			if i == 2 {
				m.MessageExpiry, m.Expires = 60, time.Now().Add(time.Minute)
			}
			s.publish(p, m)
		}
		bubble.Pass(t, 2*time.Minute)
		s.serve()
		if seen, _ := s.settled(); !slices.Equal(seen, []string{"c/01", "c/03"}) || s.stat().Ended["expired"] != 1 {
			t.Errorf("the function has seen %q, in the spool %+v", seen, s.stat())
		}
	})
}

// TestSpoolReload: a spool that the configuration names no more stays as it is, with a line in the log; when it is named again, what is in it is delivered.
func TestSpoolReload(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(1, time.Minute, nil)
		for i := 1; i <= 3; i++ {
			s.publish(p, message("c", i, 1))
		}
		synctest.Wait()
		without := *s.fn
		without.Queue.Spool = nil
		s.e.Reload(&config.Config{Functions: []*config.Function{&without}}, s)
		if !strings.Contains(s.log.String(), "messages are left in the spool") {
			t.Errorf("the log has\n%s", s.log.String())
		}
		s.serve()
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 1)) {
			t.Errorf("without the spool the function has seen %q", seen)
		}
		s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 2, 3)) {
			t.Errorf("with it again the function has seen %q", seen)
		}
	})
}

// TestSpoolUnusable: a file that is damaged, or not ours, is said in one line, and left as it is; the function is served all the same.
func TestSpoolUnusable(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(1, time.Minute, nil)
		for i := 1; i <= 3; i++ {
			s.publish(p, message("c", i, 1))
		}
		s.stop()
		file := filepath.Join(s.fn.Queue.Spool.Dir, "f.spool")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Copies of it are in pages that are free now.
		if c := bytes.ReplaceAll(b, []byte(`"topic":"c/02"`), []byte(`"topic":"x/02"`)); !bytes.Equal(b, c) {
			b = c
		} else {
			t.Fatal("the message is not in the file")
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s.log.Reset()
		s.start()
		s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s)
		if n := strings.Count(s.log.String(), "level=ERROR"); n != 1 || !strings.Contains(s.log.String(), "f.spool: the file is damaged") {
			t.Errorf("the log has\n%s", s.log.String())
		}
		if st := s.stat(); st.Usable {
			t.Errorf("%+v", st)
		}
		s.settled()
		s.serve()
		s.publish(s.e.NewPublisher(1, time.Minute, nil), message("d", 1, 1))
		if seen, _ := s.settled(); !slices.Contains(seen, "d/01") {
			t.Errorf("the function has seen %q", seen)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, b) {
			t.Errorf("the file has changed (%v)", err)
		}
	})
}

// TestSpoolBatches: spooled messages of a client go together where their function wants that, but not those of an ordered route.
func TestSpoolBatches(t *testing.T) {
	for ordered, want := range map[bool]int{false: 2, true: 4} {
		t.Run(fmt.Sprint("ordered ", ordered), func(t *testing.T) {
			spoolTest(t, func(t *testing.T, s *spooling) {
				s.configure(func(fn *config.Function) {
					fn.Batch = &config.Batch{MaxMessages: 10, MaxBytes: 1 << 20, Linger: time.Second}
				})
				var turn chan struct{}
				if ordered {
					turn = make(chan struct{})
					close(turn)
				}
				p := s.e.NewPublisher(1, time.Minute, nil)
				for i := 1; i <= 4; i++ {
					d := p.Begin(s.ctx, s.route, message("c", i, 1), turn)
					go func() { d.Run(); d.Release() }()
				}
				synctest.Wait()
				s.serve()
				bubble.Pass(t, time.Minute)
				if seen, _ := s.settled(); len(seen) != want || s.stat().Messages != 0 {
					t.Errorf("%d requests, want %d; in the spool: %+v", len(seen), want, s.stat())
				}
			})
		})
	}
}

// refuseWrites has every write to an open file of this process fail, until its end; mend gives up its lock then.
func refuseWrites(t *testing.T, path string) (mend func()) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != path {
			continue
		}
		n, err := strconv.Atoi(filepath.Base(fd))
		if err != nil {
			t.Fatal(err)
		}
		saved, err1 := unix.Dup(n)
		readOnly, err2 := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err := errors.Join(err1, err2, unix.Dup3(readOnly, n, unix.O_CLOEXEC), unix.Close(readOnly)); err != nil {
			t.Fatal(err)
		}
		return func() { _ = unix.Close(saved) }
	}
	t.Fatalf("%s is not open", path)
	return nil
}

// TestSpoolEndsOnBadDisk: the program ends though the disk refuses what is to be written, and its metrics can be read meanwhile; nothing was tried
// that could not be taken out of the spool, and nothing is lost.
func TestSpoolEndsOnBadDisk(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(1, time.Minute, nil)
		for i := 1; i <= 4; i++ {
			s.publish(p, message("c", i, 0))
		}
		synctest.Wait()
		mend := refuseWrites(t, filepath.Join(s.fn.Queue.Spool.Dir, "f.spool"))
		s.serve()
		bubble.Pass(t, time.Minute)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 1)) {
			t.Errorf("with a disk that refuses the function has seen %q", seen)
		}
		ended := make(chan struct{})
		s.end()
		go func() { s.e.Close(); close(ended) }()
		synctest.Wait()
		if st := s.stat(); st.Usable {
			t.Errorf("while it ends: %+v", st)
		}
		<-ended
		mend()
		s.start()
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 2, 4)) {
			t.Errorf("after that the function has seen %q", seen)
		}
	})
}

// TestSpoolInterrupted: a message of QoS 0 whose attempt the end of the program has cut off is not tried again.
func TestSpoolInterrupted(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		p := s.e.NewPublisher(1, time.Minute, nil)
		for i := 1; i <= 3; i++ {
			s.publish(p, message("c", i, 0))
		}
		synctest.Wait()
		s.respond(func(subject string) exchange {
			if subject == "c/02" {
				return hangs
			}
			return answers(200)
		})
		s.serve()
		synctest.Wait()
		s.restart()
		s.respond(nil)
		bubble.Pass(t, time.Minute)
		if seen, _ := s.settled(); !slices.Equal(seen, topics("c", 1, 3)) {
			t.Errorf("the function has seen %q", seen)
		}
	})
}

// TestSpoolPoisonInBatch: of messages that are sent together only the one becomes a dead letter that the function does not survive, wherever it is
// among them.
func TestSpoolPoisonInBatch(t *testing.T) {
	for _, bad := range topics("p", 2, 4) {
		t.Run(bad, func(t *testing.T) {
			spoolTest(t, func(t *testing.T, s *spooling) {
				s.configure(func(fn *config.Function) {
					fn.Batch = &config.Batch{MaxMessages: 10, MaxBytes: 1 << 20, Linger: time.Second}
				})
				p, q := s.e.NewPublisher(1, time.Minute, nil), s.e.NewPublisher(1, time.Minute, nil)
				for i := 1; i <= 4; i++ {
					s.publish(p, message("p", i, 1))
				}
				synctest.Wait()
				s.respond(func(string) exchange {
					return func(ctx context.Context, req []byte) (*pool.Response, error) {
						if bytes.Contains(req, []byte(bad)) {
							return fails(errReset)(ctx, req)
						}
						return answers(200)(ctx, req)
					}
				})
				s.serve()
				for i := range 200 { // others are served all the time
					bubble.Pass(t, 5*time.Second)
					s.publish(q, message("q", i, 1))
				}
				s.settled()
				if l := s.letters(); len(l) != 1 || l[0].Topic != bad {
					t.Errorf("dead letters: %+v", l)
				}
				if st := s.stat(); st.Messages != 0 || st.Ended["dead_letter"] != 1 {
					t.Errorf("in the spool: %+v", st)
				}
			})
		})
	}
}

// TestSpoolReopened: a spool that could not be opened is not tried again with each change of pods, but when the configuration is read again, or after
// a while.
func TestSpoolReopened(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		again := func(want bool, when string) {
			t.Helper()
			if s.e.Reload(&config.Config{Functions: []*config.Function{s.fn}}, s); s.stat().Usable != want {
				t.Errorf("%s: usable is not %v", when, want)
			}
		}
		dir := s.fn.Queue.Spool.Dir
		mode := func(m os.FileMode) {
			if err := os.Chmod(dir, m); err != nil {
				t.Fatal(err)
			}
		}
		s.stop()
		mode(0o755)
		s.start()
		mode(0o700)
		again(false, "at once")
		bubble.Pass(t, reopen)
		again(true, "after a while")
		s.stop()
		mode(0o755)
		s.start()
		mode(0o700)
		s.configure(func(fn *config.Function) { same := *fn.Queue.Spool; fn.Queue.Spool = &same })
		if !s.stat().Usable {
			t.Error("not usable after a reload of the configuration")
		}
	})
}
