package instances

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Offsets of addresses in an IPv4 header (RFC 791 section 3.1).
const (
	sourceAddress      = 12
	destinationAddress = 16
)

// filter makes the table of nftables anew: instances have this machine's address beyond
// it, and open no connection to it or to each other; nobody but this machine opens one to
// them.
func (n *network) filter() error {
	c, err := openRules()
	if err != nil {
		return err
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.table}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)
	nat := c.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: t, Chain: nat, Exprs: join(n.match(sourceAddress, expr.CmpOpEq), n.match(destinationAddress, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})})
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	for name, x := range map[string]struct {
		hook    *nftables.ChainHook
		address uint32     // an instance's, to or from which nobody opens a connection
		foreign []expr.Any // nor is this passed on that an instance sends: who administers its network namespace gives it other addresses
	}{
		"input":   {nftables.ChainHookInput, sourceAddress, opens()},
		"forward": {nftables.ChainHookForward, destinationAddress, n.match(sourceAddress, expr.CmpOpNeq)},
	} {
		chain := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: x.hook, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: join(n.match(x.address, expr.CmpOpEq), opens(), drop)})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: join(n.arrives(), x.foreign, drop)})
	}
	return rulesError(c.Flush())
}

// filtered says whether the table is there.
func (n *network) filtered() (bool, error) {
	c, err := openRules()
	if err != nil {
		return false, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, rulesError(err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == n.table }), nil
}

// unfilter removes the table, if there is one.
func (n *network) unfilter() error {
	c, err := openRules()
	if err != nil {
		return err
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.table})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return rulesError(err)
	}
	return nil
}

// match compares an address with those of instances.
func (n *network) match(offset uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(n.addresses.Bits(), 32), Xor: binary.BigEndian.AppendUint32(nil, 0)},
		&expr.Cmp{Op: op, Register: 1, Data: n.addresses.Addr().AsSlice()},
	}
}

// arrives is whether a packet comes in by an interface of an instance: its name begins as theirs do.
func (n *network) arrives() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(linkPrefix + n.mark + "-")},
	}
}

// opens is whether a packet is the first of its connection.
func opens() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: binaryutil.NativeEndian.PutUint32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

func join(parts ...[]expr.Any) (out []expr.Any) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
