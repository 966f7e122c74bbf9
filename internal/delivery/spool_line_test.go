package delivery

import (
	"slices"
	"testing"
	"time"

	"eproxy/test/lib/bubble"
)

// TestSpooledInLine: of messages on an ordered route that have places, those behind one that goes to the spool go there when their turn
// comes, and are not tried beside it; when the function serves, all are delivered in their order.
func TestSpooledInLine(t *testing.T) {
	spoolTest(t, func(t *testing.T, s *spooling) {
		s.serve()
		s.respond(func(string) exchange { return answers(503) })
		p := s.e.NewPublisher(10, time.Minute, nil)
		turn := make(chan struct{})
		close(turn)
		for i := 1; i <= 4; i++ {
			next := make(chan struct{})
			d := p.Begin(s.ctx, s.route, message("c", i, 1), turn)
			go func() {
				defer close(next)
				defer d.Release()
				d.Run()
			}()
			turn = next
		}
		bubble.Pass(t, 30*time.Second)
		seen, _ := s.settled()
		if len(seen) < 3 || slices.ContainsFunc(seen, func(topic string) bool { return topic != "c/01" }) {
			t.Errorf("tried while the first one is not served: %v", seen)
		}
		if n := s.stat().Messages; n != 4 {
			t.Errorf("%d messages are in the spool", n)
		}
		s.respond(nil)
		bubble.Pass(t, time.Minute)
		if seen, _ = s.settled(); !slices.Equal(seen, topics("c", 1, 4)) {
			t.Errorf("served %v", seen)
		}
	})
}
