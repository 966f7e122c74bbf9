package netns

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/test/lib/lab"
)

// ledgers are what the programs know of a device's connection, found by its port,
// and of the slots that its messages are with: for the reader of a failure.
func ledgers(l *lab.Lab, port int) string {
	open := func(name string) *ebpf.Map {
		m, err := ebpf.LoadPinnedMap(filepath.Join(l.BPFFS(), "maps", name), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return nil
		}
		return m
	}
	flows, conns, slots, requests := open("flows"), open("conns"), open("slots"), open("requests")
	if flows == nil || conns == nil || slots == nil || requests == nil {
		return "no maps are pinned\n"
	}
	defer flows.Close()
	defer conns.Close()
	defer slots.Close()
	defer requests.Close()
	depth := (requests.MaxEntries() - slots.MaxEntries()) / slots.MaxEntries() // knob_pipeline
	var b strings.Builder
	var t bpf.EproxyTuple
	var index uint32
	for it := flows.Iterate(); it.Next(&t, &index); {
		if int(t.RemotePort>>8|t.RemotePort<<8) != port {
			continue
		}
		var c bpf.EproxyConn
		if err := conns.LookupWithFlags(index, &c, ebpf.LookupLock); err != nil {
			continue
		}
		rx, tx := c.Rx, c.Tx
		c.Rx, c.Tx = bpf.EproxyLedger{}, bpf.EproxyLedger{}
		fmt.Fprintf(&b, "conn %d: gen %d state %d flags %#x in_flight %d; rx_nxt %d kack %d acked %d edge %d base %d; tx_nxt %d una %d knxt %d kuna %d wnd %d base %d\n",
			index, c.Gen, c.State, c.Flags, c.InFlight, c.RxNxt, c.RxKack, c.RxAcked, c.RxEdge, rx.Base, c.TxNxt, c.TxUna, c.TxKnxt, c.TxKuna, c.TxWnd, tx.Base)
		for name, g := range map[string]bpf.EproxyLedger{"rx": rx, "tx": tx} {
			for i := range uint32(g.Count) {
				x := g.Ring[(uint32(g.Head)+i)%uint32(len(g.Ring))]
				fmt.Fprintf(&b, "  %s %+v\n", name, x)
				var s bpf.EproxySlot
				var sc bpf.EproxyConn
				if name == "rx" && slots.Lookup(x.Who, &s) == nil && conns.LookupWithFlags(x.Who, &sc, ebpf.LookupLock) == nil {
					fmt.Fprintf(&b, "    slot %d: gen %d state %d head %d tail %d left %d; conn state %d flags %#x rx_nxt %d tx_nxt %d una %d\n",
						x.Who, sc.Gen, s.State, s.Head, s.Tail, s.Left, sc.State, sc.Flags, sc.RxNxt, sc.TxNxt, sc.TxUna)
					for n := s.Head; n != s.Tail; n++ {
						fmt.Fprintf(&b, "    message %+v\n", s.Messages[n%depth])
					}
				}
			}
		}
	}
	return b.String()
}
