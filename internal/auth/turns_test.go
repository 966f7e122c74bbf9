package auth

import (
	"net/netip"
	"strings"
	"testing"
)

// asked is a login that asked for a turn.
type asked struct {
	name string
	turn <-chan bool
}

// ask queues logins, each named for its address: a, b, ...
func ask(tt *turns, names string) []asked {
	var out []asked
	for _, n := range strings.Split(names, "") {
		from := origin(netip.AddrFrom4([4]byte{192, 0, 2, n[0]}))
		out = append(out, asked{n, tt.ask(from)})
	}
	return out
}

// states are the names of those that were granted (upper case), refused (-), or wait.
func states(all []asked) string {
	var b strings.Builder
	for _, x := range all {
		select {
		case ok := <-x.turn:
			if ok {
				b.WriteString(strings.ToUpper(x.name))
			} else {
				b.WriteString("-")
			}
		default:
			b.WriteString(x.name)
		}
	}
	return b.String()
}

func TestTurnsGoRoundTheAddresses(t *testing.T) {
	tt := newTurns(1, maxWaiting)
	all := ask(tt, "aaaabbc")
	for _, want := range []string{"Aaaabbc", "aAaabbc", "aaaaBbc", "aaaabbC", "aaAabbc", "aaaabBc", "aaaAbbc", "aaaabbc"} {
		if got := states(all); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		tt.end()
	}
	if got := states(ask(tt, "z")); got != "Z" {
		t.Errorf("nobody waits, but %s", got)
	}
}

// TestFullQueueIsShared: who has the most waiting makes room for others, and gets
// no more itself.
func TestFullQueueIsShared(t *testing.T) {
	tt := newTurns(1, maxWaiting)
	flood := ask(tt, strings.Repeat("a", maxWaiting+2))
	if got, want := states(flood), "A"+strings.Repeat("a", maxWaiting)+"-"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	other := ask(tt, "b")
	if got := states(flood) + states(other); strings.Count(got, "-") != 1 || !strings.HasSuffix(got, "b") {
		t.Errorf("got %s", got)
	}
	others := ask(tt, strings.Repeat("b", maxWaiting))
	if got := strings.Count(states(others), "b"); got != maxWaiting/2-1 {
		t.Errorf("%d of the other's wait, want %d", got+1, maxWaiting/2)
	}
	if tt.total != maxWaiting {
		t.Errorf("%d wait", tt.total)
	}
	tt.end()
	tt.end()
	if got := states(other); got != "B" {
		t.Errorf("the other's first is %s, want the second turn", got)
	}
}

func TestCloseRefusesAll(t *testing.T) {
	tt := newTurns(1, maxWaiting)
	all := ask(tt, "aab")
	tt.close()
	if got := states(all) + states(ask(tt, "c")); got != "A---" {
		t.Errorf("got %s", got)
	}
	tt.end() // of the first
}

func TestOriginsByAddressOrNetwork(t *testing.T) {
	of := func(s string) netip.Prefix { return origin(netip.MustParseAddr(s)) }
	if of("2001:db8::1") != of("2001:db8::ffff") || of("2001:db8::1") == of("2001:db8:0:1::1") || of("::ffff:192.0.2.1") != of("192.0.2.1") || of("192.0.2.1") == of("192.0.2.2") || of("fe80::1%eth0") != of("fe80::1") {
		t.Error("origins")
	}
	_ = origin(netip.Addr{})
}
