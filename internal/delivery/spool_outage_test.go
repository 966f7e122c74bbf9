package delivery

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/test/lib/bubble"
)

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
		s.publishAll("c", 3, 0)
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

// TestSpoolInterrupted: a message of QoS 0 whose attempt the end of the program has cut off is not tried again.
func TestSpoolInterrupted(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		s.publishAll("c", 3, 0)
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
