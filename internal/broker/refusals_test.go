package broker

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"eproxy/internal/lograte"
)

// TestRefusalsAreBounded: of each client the latest are kept, of so many clients; who comes
// beyond takes the place of the one that was refused longest ago.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	for i := range refusalsOfClient + 3 {
		r.add("first", Refusal{Reason: fmt.Sprint(i)})
	}
	got := r.of("first")
	if len(got) != refusalsOfClient || got[0].Reason != fmt.Sprint(refusalsOfClient+2) || got[len(got)-1].Reason != "3" {
		t.Errorf("%d refusals, %+v", len(got), got)
	}
	for i := range refusedClients - 1 {
		r.add(fmt.Sprint(i), Refusal{})
	}
	r.add("first", Refusal{}) // now "0" was refused longest ago
	r.add("more", Refusal{})
	if r.of("first") == nil || r.of("more") == nil || r.of("0") != nil || r.of("1") == nil {
		t.Error("not the client that was refused longest ago gave way")
	}
	if len(r.byName) != refusedClients || r.order.Len() != refusedClients {
		t.Errorf("%d, %d clients, want %d", len(r.byName), r.order.Len(), refusedClients)
	}
	r.add(strings.Repeat("x", refusalText+1), Refusal{})
	r.add("", Refusal{})
	if len(r.byName) != refusedClients || r.of("more") == nil {
		t.Error("an identifier that is too long, or none, is remembered")
	}
	r.add("more", Refusal{Topic: strings.Repeat("t", refusalText+1)})
	if n := len(r.of("more")[0].Topic); n != refusalText {
		t.Errorf("a topic of %d bytes is kept, want %d", n, refusalText)
	}
}

// TestRefusedIsRemembered: by what is logged of it.
func TestRefusedIsRemembered(t *testing.T) {
	s := &Server{often: lograte.New(slog.New(slog.DiscardHandler))}
	defer s.often.Close()
	s.Refused("not_authorized", "client may not", netip.MustParseAddrPort("[::ffff:10.0.0.1]:5"), "client", "c", "topic", "t")
	s.Refused("denied_address", "nobody's", netip.MustParseAddrPort("10.0.0.1:5"))
	got := s.refusals.of("c")
	if len(got) != 1 || got[0].Reason != "not_authorized" || got[0].Text != "client may not" || got[0].Topic != "t" || got[0].Remote != "10.0.0.1:5" || got[0].Time.IsZero() {
		t.Errorf("%+v", got)
	}
	if len(s.refusals.byName) != 1 {
		t.Errorf("%d clients", len(s.refusals.byName))
	}
}
