package delivery

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/test/lib/bubble"
)

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
