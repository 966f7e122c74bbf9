package delivery

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// TestFinalStatus: a message that its function says it will never have is not tried again, whatever attempts are
// left, wherever the first was made; it is a dead letter, or its client is told so.
func TestFinalStatus(t *testing.T) {
	for _, dead := range []bool{true, false} {
		for _, elsewhere := range []bool{true, false} {
			t.Run(fmt.Sprintf("dead letter %v, first attempt elsewhere %v", dead, elsewhere), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, 5, answers(422), answers(200))
					b.fn.Retry.Final = []int{400, 422}
					file := b.fn.DeadLetter
					if !dead {
						b.fn.DeadLetter = nil
					}
					m := &request.Message{QoS: 1, Version: 4}
					var o Outcome
					if elsewhere {
						o = b.e.DeliverRequest(t.Context(), b.fn, nil, m, time.Now(), nil, 1, &pool.StatusError{Status: 400})
					} else {
						o = b.e.Deliver(t.Context(), b.route, m)
					}
					want := map[bool]string{true: "dead_letter", false: "rejected"}[dead]
					if made := b.pool.made.Load(); made != map[bool]int32{true: 0, false: 1}[elsewhere] || o.Name() != want || o.Acked != dead || !dead && o.ReasonCode != CodeNotAccepted {
						t.Errorf("%d attempts here, outcome %+v, want %s", made, o, want)
					}
					b.fn.DeadLetter = file
					if l := b.letters(); (len(l) == 1) != dead {
						t.Errorf("dead letters %+v", l)
					}
				})
			})
		}
	}
}

// busy answers with a status and Retry-After.
func busy(status int, after string) exchange {
	return func(context.Context, []byte) (*pool.Response, error) {
		return &pool.Response{Status: status, Header: http.Header{"Retry-After": {after}}}, nil
	}
}

// TestRetryAfter: the next attempt begins no earlier than the function wishes, and the deadline stands.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		first exchange
		want  string
		least time.Duration
		most  time.Duration
	}{
		{busy(503, "20"), delivered, 20 * time.Second, 20 * time.Second},
		{busy(429, "20"), delivered, 20 * time.Second, 20 * time.Second},
		{busy(500, "20"), delivered, time.Second / 2, time.Second}, // RFC 9110 knows it of 503, RFC 6585 of 429
		{busy(503, "soon"), delivered, time.Second / 2, time.Second},
		{busy(503, "0"), delivered, time.Second / 2, time.Second},
		{busy(503, "99999999999999999999"), "deadline", time.Minute, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 2, c.first, answers(200))
			b.fn.DeadLetter, b.fn.Deadline = nil, time.Minute
			began := time.Now()
			o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Version: 5})
			if took := time.Since(began); o.Name() != c.want || took < c.least || took > c.most {
				t.Errorf("%s after %s, want %s after %s", o.Name(), took, c.want, c.least)
			}
		})
	}
}

// TestPoison: a message that its function always answers with an error, while it serves others, does not come again for
// ever from a client that cannot be told: it is rejected the third time. One that differs in anything, one of MQTT 5, one
// whose function does not answer, and one whose function serves nobody meanwhile are none of that.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, answers(500))
		b.fn.DeadLetter = nil
		give := func(m request.Message, want string) {
			t.Helper()
			m.QoS = 1
			if o := b.e.Deliver(t.Context(), b.route, &m); o.Name() != want || o.Acked != (want == delivered) {
				t.Errorf("%+v, want %s", o, want)
			}
		}
		healthy := func() {
			b.pool.steps = []exchange{answers(200)}
			give(request.Message{ClientID: "other"}, delivered)
			b.pool.steps = []exchange{answers(500)}
		}
		m := request.Message{ClientID: "c", Topic: "t", Payload: []byte("x"), Version: 4}
		for range 9 {
			give(m, "failed") // an outage
		}
		healthy()
		give(m, "failed")
		for _, other := range []request.Message{{ClientID: "d", Topic: "t", Payload: []byte("x"), Version: 4}, {ClientID: "ct", Payload: []byte("x"), Version: 4},
			{ClientID: "c", Topic: "t", Payload: []byte("y"), Version: 3}, {ClientID: "c", Topic: "t", Payload: []byte("x"), Version: 5}} {
			give(other, "failed")
		}
		healthy()
		give(m, "rejected")
		give(m, "failed") // others were not served since
		healthy()
		give(m, "rejected")
		b.pool.steps = []exchange{answers(200)}
		give(m, delivered)
		healthy()
		give(m, "failed") // begins anew
		for range 5 {
			healthy()
			b.pool.steps = []exchange{fails(errReset)}
			give(m, "failed")
		}
		for i := range 3 * poisonMemory {
			b.e.again.tooOften("f", &request.Message{QoS: 1, Version: 4, Topic: fmt.Sprint(i)}, Outcome{Err: &pool.StatusError{Status: 500}}, 0)
		}
		if n := len(b.e.again.young) + len(b.e.again.old); n > 2*poisonMemory {
			t.Errorf("%d messages are remembered", n)
		}
	})
}

// TestServedInTheKernel: what a function has served in the kernel path counts as well.
func TestServedInTheKernel(t *testing.T) {
	b := newBench(t, 1, answers(500))
	b.fn.DeadLetter, b.fn.Pods = nil, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")}
	var served uint64
	b.e.servedElsewhere = func(_ string, pod netip.AddrPort) uint64 {
		if pod != b.fn.Pods[1] {
			return 0
		}
		served++
		return served
	}
	for _, want := range []string{"failed", "failed", "rejected"} {
		if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Version: 4}); o.Name() != want {
			t.Errorf("%+v, want %s", o, want)
		}
	}
}

// TestRejectedAndNotWritten: a message whose dead letter cannot be written is not settled, whatever its function thinks
// of it.
func TestRejectedAndNotWritten(t *testing.T) {
	b := newBench(t, 1, answers(422))
	b.fn.Retry.Final = []int{422}
	b.fn.DeadLetter.File = filepath.Join(b.fn.DeadLetter.File, "no", "directory")
	if err := os.WriteFile(filepath.Dir(filepath.Dir(b.fn.DeadLetter.File)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Version: 4}); o.Acked || o.Rejected || o.Name() != "failed" {
		t.Errorf("%+v", o)
	}
}

// TestRejectedByOne: what one function of a route rejects and another one cannot be given now is not settled.
func TestRejectedByOne(t *testing.T) {
	for _, c := range []struct {
		a, b string // outcomes
		want string
	}{{"rejected", "failed", "failed"}, {"failed", "rejected", "failed"}, {delivered, "rejected", "rejected"}, {"rejected", delivered, "rejected"}, {delivered, delivered, delivered}} {
		d := &Delivery{}
		for _, name := range []string{c.a, c.b} {
			d.singles = append(d.singles, &single{result: &Outcome{Rejected: name == "rejected", Acked: name == delivered}})
		}
		if got := d.outcome().Name(); got != c.want {
			t.Errorf("%s and %s: %s, want %s", c.a, c.b, got, c.want)
		}
	}
}
