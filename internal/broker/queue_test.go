package broker

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// TestDrainAcks: a server that is drained waits for acknowledgements that their
// clients have not been notified, while there is time.
func TestDrainAcks(t *testing.T) {
	s := &Server{}
	s.queued.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if s.Drain(ctx); ctx.Err() == nil {
		t.Error("an acknowledgement waits, Drain does not")
	}
	s.queued.Add(-1)
	s.Drain(context.Background())
}

// TestAckQueueOrderAndLimit: everything is written once, in order, and after the limit
// nothing is.
func TestAckQueueOrderAndLimit(t *testing.T) {
	const n = 1000
	var got []uint16
	release, done := make(chan struct{}), make(chan struct{})
	overflows := 0
	q := &ackQueue{limit: n, queued: new(atomic.Int64), overflow: func() { overflows++ }, write: func(a ack) {
		<-release
		got = append(got, a.id)
		if len(got) == n {
			close(done)
		}
	}}
	var want []uint16
	for i := range n {
		q.add(ack{id: uint16(i)})
		want = append(want, uint16(i))
	}
	close(release)
	<-done
	if !slices.Equal(got, want) || overflows != 0 {
		t.Fatalf("wrote %v, %d overflows", got, overflows)
	}
	blocked := make(chan struct{})
	q = &ackQueue{limit: 3, queued: new(atomic.Int64), overflow: func() { overflows++ }, write: func(ack) { <-blocked }}
	for range 10 {
		q.add(ack{id: 1})
	}
	close(blocked)
	if overflows != 1 {
		t.Errorf("%d overflows, want 1", overflows)
	}
}
