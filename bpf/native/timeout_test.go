//go:build cgo

package native

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// estimator is RFC 6298 in real numbers, beside the programs' fixed point.
type estimator struct {
	srtt, rttvar float64 // ms; 0: nothing was measured
	backoff      int
}

func (e *estimator) measure(ms float64) {
	e.backoff = 0
	if e.srtt == 0 {
		e.srtt, e.rttvar = ms, ms/2
		return
	}
	off := e.srtt - ms
	if off < 0 {
		off = -off
	}
	e.rttvar = 3*e.rttvar/4 + off/4
	e.srtt = 7*e.srtt/8 + ms/8
}

// timeout is what the programs should wait, in milliseconds, to a pod that is far or near.
func (e *estimator) timeout(far bool) float64 {
	const first, most = 1000, 60000
	ms := float64(first)
	if e.srtt > 0 {
		ms = e.srtt + max(4*e.rttvar, e.srtt/2) + 50
		if far {
			ms -= 40
		}
	}
	return min(ms*float64(int(1)<<min(e.backoff, 5)), most)
}

// timesOut has a slot meet round trips of all kinds, and losses; it says where the programs'
// timeout is not RFC 6298's.
func timesOut(table *Table, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	c, r := slotConn(uint32(rng.Uint64())), &Recovery{}
	var e estimator
	c.tx_nxt += 1000
	shortest := 0.0 // lately
	bases := []int{1, 3, 8, 20, 40, 200, 5000, 70000}
	base := bases[rng.IntN(len(bases))]
	for range 1 + rng.IntN(60) {
		if rng.IntN(20) == 0 {
			base = bases[rng.IntN(len(bases))] // another way to the pod
		}
		if rng.IntN(3) == 0 {
			table.RecoveryExpire(r, c)
			e.backoff++
			if r.recover != c.tx_nxt || r.known == 0 || r.on == 0 || r.dup_acks != 0 {
				return fmt.Errorf("after a timeout: recovery %+v, SND.NXT %d", *r, c.tx_nxt)
			}
		} else {
			ms := base + rng.IntN(base)/2
			if rng.IntN(20) == 0 {
				ms = -3 // another processor's clock
			}
			bare := rng.IntN(4) > 0 // else it came with a response
			table.RecoveryMeasure(r, c, int32(ms), bare)
			held := min(max(float64(ms), 1), 60000)
			e.measure(held)
			if first := e.srtt == held && e.rttvar == held/2; first || held < shortest {
				shortest = held
			} else if bare && held < 40 { // the function has no part in it
				shortest += (held - shortest) / 16
			}
		}
		far := table.RecoveryFar(c)
		if d := shortest - 5; (d > 1 && !far) || (d < -1 && far) {
			return fmt.Errorf("far: %t, short round trips take %.1f ms", far, shortest)
		}
		sent := uint32(rng.Uint64())
		got, want := float64(table.RecoveryDue(r, c, sent)-sent), e.timeout(far)
		// eighths, and quarters of a millisecond are cut off
		if slack := 0.01*want + float64(int(8)<<min(e.backoff, 5)); got < want-slack || got > want+slack {
			return fmt.Errorf("a timeout of %.0f ms, RFC 6298: %.1f (SRTT %.1f, RTTVAR %.1f, doubled %d times)", got, want, e.srtt, e.rttvar, e.backoff)
		}
		low := uint32(c.rtt_low / 16)
		if table.RecoveryMissing(c, sent, sent+low-1) && low > 0 || !table.RecoveryMissing(c, sent, sent+low) || low > 0 && table.RecoveryMissing(c, sent, sent-1) {
			return fmt.Errorf("missing: a request that nobody can have acknowledged, or not one after a round trip of %d ms", low)
		}
	}
	return nil
}

// TestTimeout: when a request that nobody acknowledges is sent again is what RFC 6298 says, with what
// recovery.h adds to it, and no request is taken for missing earlier than a round trip after it was sent.
func TestTimeout(t *testing.T) {
	for seed := range uint64(5000) {
		if err := timesOut(Own(), seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// timeoutPlanted are mistakes that TestTimeout must find.
var timeoutPlanted = []struct{ name, file, old, new string }{
	{"round trip counted twice", "recovery.h", "c->srtt = c->srtt - c->srtt / 8 + rtt;", "c->srtt = c->srtt - c->srtt / 8 + 2 * rtt;"},
	{"variation never falls", "recovery.h", "c->rttvar - c->rttvar / 4 + off", "c->rttvar + off"},
	{"variation by the new average", "recovery.h", "c->srtt / 8 < rtt ? rtt - c->srtt / 8 : c->srtt / 8 - rtt", "0"},
	{"first variation forgotten", "recovery.h", "c->rttvar = 2 * rtt;", "c->rttvar = 0;"},
	{"variation not looked at", "recovery.h", "srtt / 2 > c->rttvar ? srtt / 2 : c->rttvar", "srtt / 2"},
	{"not even half a round trip more", "recovery.h", "srtt / 2 > c->rttvar ? srtt / 2 : c->rttvar", "c->rttvar"},
	{"no doubling", "recovery.h", "ms <<= r->backoff < BACKOFF_MAX ? r->backoff : BACKOFF_MAX;", ""},
	{"doubled for ever", "recovery.h", "	rtt = ms;\n	r->backoff = 0;", "	rtt = ms;"},
	{"no bound", "recovery.h", "return ms < ROUND_TRIP_MAX ? ms : ROUND_TRIP_MAX;", "return ms;"},
	{"nothing measured", "recovery.h", "		ms = REQUEST_TIMEOUT_MS;", "		ms = 0;"},
	{"clock behind", "recovery.h", "	if (ms < 1) /* below", "	if (0) /* below"},
	{"a pod is far for ever", "recovery.h", "	if (16 * rtt < c->rtt_low)", "	if (0)"},
	{"a pod is near for ever", "recovery.h", "c->rtt_low += rtt - c->rtt_low / 16;", ";"},
	{"a slow function is far", "recovery.h", "else if (bare && rtt < DELAYED_ACK_MS)", "else if (rtt < DELAYED_ACK_MS)"},
	{"a delayed acknowledgement is far", "recovery.h", "else if (bare && rtt < DELAYED_ACK_MS)", "else if (bare)"},
	{"partial acknowledgements show nothing after a timeout", "recovery.h", "	r->on = 1;\n	r->dup_acks = 0;", "	r->dup_acks = 0;"},
	{"missing before it can be acknowledged", "recovery.h", ">= (__s32)(c->rtt_low / 16)", ">= 0"},
	{"missing by a clock that is ahead", "recovery.h", "return (__s32)(now_ms - sent_ms) >= (__s32)(c->rtt_low / 16);", "return now_ms - sent_ms >= c->rtt_low / 16;"},
}

// TestTimeoutMistakesAreFound shows that TestTimeout finds mistakes.
func TestTimeoutMistakesAreFound(t *testing.T) {
	for _, p := range timeoutPlanted {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(5000) {
				if err := timesOut(table, seed); err != nil {
					t.Logf("found with seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
