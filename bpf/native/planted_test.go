//go:build cgo

package native

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// planted are mistakes that the model must find; each is a replacement in one
// header. The last group are mistakes that it did find.
var planted = []struct{ name, file, old, new string }{
	{"wrong delta at the boundary of an insertion", "ledger.h",
		"if (seq_lt(w, g->seq))\n\t\t\tbreak;\n\t\tw += g->len;\n\t}\n\treturn w;\n}\n\n/*\n * A range",
		"if (seq_le(w, g->seq))\n\t\t\tbreak;\n\t\tw += g->len;\n\t}\n\treturn w;\n}\n\n/*\n * A range"},
	{"wrong delta inside an insertion", "ledger.h", "k -= below < g->len ? below : g->len;", "k -= g->len;"},
	{"wrong delta behind a removal", "ledger.h", "k -= below < g->len ? below : g->len;", "k -= below < g->len ? below : g->len - 1;"},
	{"settled too early", "ledger.h", "seq_gt(g->seq + g->len, upto)", "seq_gt(g->seq, upto)"},
	{"never settled", "ledger.h", "if (!l->count)\n\t\t\tbreak;\n\t\tg = ledger_at(l, 0);", "if (l->count)\n\t\t\tbreak;\n\t\tg = ledger_at(l, 0);"},
	{"ring overflow", "ledger.h", "return l->open >= limit || l->count >= TURNS_MAX;", "return false;"},
	{"ack beyond an unanswered message", "ledger.h", "if (g->state != GRAFT_DONE)\n\t\t\treturn g->seq;\n", ""},
	{"merged retransmission not cut at an insertion", "ledger.h", "\t\t\treturn g->seq;\n\t}\n\treturn wire + len;", "\t\t\tbreak;\n\t}\n\treturn wire + len;"},
	{"lost PUBACK never sent again", "conn_rx.h", "return RX_RESEND;", "return RX_ACK;"},
	{"insertion beyond the window", "conn_books.h", "return c->tx_nxt + len - c->tx_una <= c->tx_wnd;", "return true;"},
	{"insertion inside a packet", "conn_books.h", "c->tx_framed == c->tx_knxt && framing_at_boundary(&c->tx_framing)", "c->tx_framed == c->tx_knxt"},
	{"insertion behind the FIN", "conn_books.h", "(CONN_FIN_SENT | CONN_RST_SENT | CONN_BROKEN)", "(CONN_RST_SENT | CONN_BROKEN)"},
	{"response of another slot", "conn_books.h", "g->who == slot && ", ""},
	{"late response for another position", "conn_books.h", " && g->seq == seq)", ")"},
	{"reset from within the window", "conn_rx.h", "if (s->seq == c->rx_nxt || (s->seq == notified && ledger_strip(&c->rx, notified) == c->rx_kack))\n", "if (seq_ge(s->seq, c->rx_acked))\n"},
	{"acknowledgement of what was never sent", "conn_rx.h", "return seq_le(s->ack, c->tx_nxt) && ", "return "},
	{"acknowledgement from long ago", "conn_rx.h", " && !seq_lt(s->ack, c->tx_una - c->tx_max_wnd);", ";"},
	{"acknowledgement that was overtaken passed as less than was passed before", "conn_rx.h", "return (s->flags & TH_ACK) && seq_lt(s->ack, c->tx_una);", "return false;"},
	{"acknowledgement that was overtaken passed with its own window", "conn_rx.h", "v->wnd = c->tx_rawwnd;\n\t\treturn RX_PASS;", "v->wnd = s->wnd;\n\t\treturn RX_PASS;"},
	{"window of a reset taken for the peer's", "conn_rx.h", "\tif (s->flags & TH_RST) /* the socket takes neither from it */\n\t\treturn RX_PASS;\n", ""},
	{"acknowledged bytes passed again", "conn_rx.h", "if (seq_le(ledger_strip(&c->rx, cut), c->rx_kack))\n\t\treturn RX_ACK;\n", ""},
	{"whole window while insertions are in flight", "conn_rx.h", "if (!unacked)\n", "if (1)\n"},
	{"response to a probe absorbed", "conn_rx.h", " || (c->flags & CONN_PROBE))", ")"},
	{"answered message injected again", "conn_rx.h", "g->state == GRAFT_OPEN ? RX_REINJECT : RX_ACK", "RX_REINJECT"},
	{"retransmission not cut at a removal", "conn_rx.h", "cut = ledger_next(&c->rx, s->seq, seq_lt(end, c->rx_nxt) ? end : c->rx_nxt);", "cut = seq_lt(end, c->rx_nxt) ? end : c->rx_nxt;"},
	{"payload passed behind a response that is half removed", "conn_rx.h", "} else if (s->in_order) {", "} else if (0) {"},
	{"payload from beyond the next byte not passed", "conn_rx.h", "} else if (s->in_order) {", "} else if (1) {"},
	{"beyond a hole placed by the settled grafts alone", "conn_rx.h", "v->seq = ledger_strip(&c->rx, seq_gt(s->seq, c->rx_hole) ? c->rx_hole : s->seq);",
		"v->seq = v->ahead ? s->seq - c->rx.base : ledger_strip(&c->rx, seq_gt(s->seq, c->rx_hole) ? c->rx_hole : s->seq);"},
	{"what lies beyond a hole moved to its beginning", "conn_rx.h", "seq_gt(s->seq, c->rx_hole) ? c->rx_hole : s->seq", "seq_gt(s->seq, c->rx_nxt) ? c->rx_nxt : s->seq"},
	{"hole forgotten where the connection ends", "conn_rx.h", "\t\t\tc->rx_hole = end;", "\t\t\tc->rx_hole = end - fin;"},
	{"take inside a hole", "hole.h", "return seq == c->rx_nxt && !conn_hole(c);", "return seq == c->rx_nxt;"},
	{"boundary named inside a hole", "hole.h", "return conn_follow(c, at) && !conn_hole(c);", "return conn_follow(c, at);"},
	{"boundary named before all that was passed is read", "hole.h", "return conn_follow(c, at) && !conn_hole(c);", "conn_follow(c, at);\n\treturn !conn_hole(c);"},
	{"hole past the window", "conn_rx.h", "\tif (len > (__u32)room)\n\t\tlen = room;\n", ""},
	{"hole past the window, all of it", "conn_rx.h", "\tif (room < 0)\n\t\treturn RX_ACK;\n", "\tif (room < 0)\n\t\troom = len;\n"},
	{"out-of-order queue ignored at seeding", "hole.h", "if (seq_gt(queued, c->rx_hole) && queued - rcv_nxt <= most)", "if (0)"},
	{"what was passed since arming ignored at seeding", "hole.h", "if (seq_gt(passed, c->rx_hole) && passed - rcv_nxt <= most)", "if (0)"},
	{"duplicate acknowledgement held back", "conn_tx.h", "\tif ((c->flags & CONN_SACK) || !conn_held_back(c))\n\t\treturn false;\n", ""},
	{"duplicate acknowledgement of an open message", "conn_tx.h", "\tif ((c->flags & CONN_SACK) || !conn_held_back(c))\n\t\treturn false;\n", "\treturn false;\n"},
	{"acknowledgement above the books treated as an error", "conn_tx.h", "if (seq_gt(c->rx_kack, known) && !conn_follow(c, c->rx_kack)) {", "if (seq_gt(c->rx_kack, known)) {"},
	{"acknowledgement above all that was passed followed", "hole.h", "if (more > c->rx_hole - c->rx_nxt)", "if ((__s32)more < 0)"},
	{"framing of what was beyond a hole taken for known", "hole.h", "\t\tc->flags |= CONN_LOST;\n\t}\n\treturn true;", "\t}\n\treturn true;"},
	{"FIN beyond a hole taken for the next byte", "conn_rx.h", "\t\t\tc->flags |= CONN_FIN_AHEAD;\n", "\t\t\tc->flags |= CONN_FIN_SEEN;\n"},
	{"FIN beyond a hole forgotten", "conn_rx.h", "\t\t\tc->flags |= CONN_FIN_AHEAD;\n", ""},
	{"reset behind all that was passed refused", "conn_rx.h", "else if (s->seq != c->rx_hole)\n", "else\n"},
	{"open messages merged", "ledger.h", "return !(state | gap | over);", "return !(gap | over);"},
	{"neighbours merged across bytes of the socket", "ledger.h", "return !(state | gap | over);", "return !(state | over);"},
	{"front passed to a socket that is behind", "conn_rx.h", "\tif (conn_caught_up(c))\n\t\treturn true;\n", "\treturn true;\n"},
	{"rest of a burst passed to a socket that is behind", "conn_rx.h", "return ledger_strip(&c->rx, c->rx_nxt) == c->rx_kack;", "return true;"},
	{"front with a removal passed", "conn_rx.h", "return seq_ge(seq, c->rx_acked) && !ledger_find(&c->rx, seq) &&", "return seq_ge(seq, c->rx_acked) || !ledger_find(&c->rx, seq) ||"},
	{"keepalive probe not answered", "conn_rx.h", "return conn_may_answer(c, now_ms) ? RX_ACK : RX_DROP;", "return RX_DROP;"},

	{"window rounded down", "conn_books.h", "(c->rx_edge - ack + (1u << shift) - 1) >> shift", "(c->rx_edge - ack) >> shift"},
	{"FIN at the position of an insertion", "conn_tx.h", "cut = ledger_straddle(&c->tx, v->seq, end - v->seq);",
		"cut = ledger_straddle(&c->tx, v->seq, s->len); if (cut == v->seq + s->len) cut = end;"},
	{"FIN behind known bytes not counted", "conn_rx.h", "if ((s->flags & TH_FIN) && cut == c->rx_nxt && end == cut + 1) {", "if (0) {"},
	{"dropped ACK absorbed for ever", "conn_tx.h", "if (seq_lt(s->seq, c->tx_knxt))\n", "if (end == v->seq && seq_lt(s->seq, c->tx_knxt))\n"},
	{"ACK at a position that takes move", "conn_rx.h", "seq_gt(s->seq, c->rx_hole) ? c->rx_hole : s->seq", "s->seq"},
}

// sources are the context-free headers, and shim.h.
func sources() ([]string, error) {
	names := []string{"shim.h"}
	for _, folder := range []string{"abi", "pure"} {
		found, err := filepath.Glob("../" + folder + "/*.h")
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	return names, nil
}

// build compiles a copy of the headers with one replacement.
func build(dir, file, old, new string) (*Table, error) {
	names, err := sources()
	if err != nil {
		return nil, err
	}
	edited := false
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		s := string(b)
		if filepath.Base(name) == file {
			if strings.Count(s, old) != 1 {
				return nil, fmt.Errorf("%s: %q occurs %d times", file, old, strings.Count(s, old))
			}
			s = strings.Replace(s, old, new, 1)
			edited = true
		}
		to := filepath.Join(dir, "native", name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(to, []byte(s), 0o644); err != nil {
			return nil, err
		}
	}
	if !edited {
		return nil, fmt.Errorf("%s does not exist", file)
	}
	const source = "#include \"shim.h\"\nconst struct shim *eproxy_shim(void) { return &shim_table; }\n"
	c, so := filepath.Join(dir, "native", "v.c"), filepath.Join(dir, "native", "v.so")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		return nil, err
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if out, err := exec.Command(cc, "-O1", "-w", "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cc, err, out)
	}
	return Open(so)
}

// TestFailureIsShrunk: a failure comes down to the few events that it takes.
func TestFailureIsShrunk(t *testing.T) {
	p := planted[0]
	table, err := build(t.TempDir(), p.file, p.old, p.new)
	if err != nil {
		t.Fatal(err)
	}
	for seed := uint64(1); ; seed++ {
		s := randomScenario(seed, eventsPerScenario)
		if _, err := run(table, s, nil, nil); err == nil {
			continue
		}
		s = shrink(table, s)
		if _, err := run(table, s, nil, nil); err == nil {
			t.Error("the shrunk scenario does not fail")
		}
		if n := (len(s) - head) / 4; n > 40 {
			t.Errorf("%d events left", n)
		} else {
			t.Logf("%d events left:\n%s", n, explain(table, s))
		}
		return
	}
}

// TestPlantedMistakesAreFound shows that the model finds mistakes: every broken copy must fail
// within a bounded number of events.
func TestPlantedMistakesAreFound(t *testing.T) {
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			events := 0
			for seed := uint64(1); events < 4_000_000; seed++ {
				n, err := run(table, randomScenario(seed, eventsPerScenario), nil, nil)
				events += n
				if err != nil {
					t.Logf("found after %d events, seed %d: %v", events, seed, err)
					return
				}
			}
			t.Fatalf("not found within %d events", events)
		})
	}
}
