package dataplane

import (
	"eproxy/internal/conntable"
	"eproxy/internal/neighbours"
)

// linkConns are all connections that the programs may build frames for.
func (p *Plane) linkConns() (conns []neighbours.Conn) {
	for _, l := range p.devices.Links() {
		conns = append(conns, neighbours.Conn{Index: l.Index, Gen: l.Gen, Local: l.Local, Remote: l.Remote})
	}
	for s := range p.table.Slots() {
		s.mu.Lock()
		if s.conn != nil {
			if local, ok := conntable.AddrPort(s.conn.LocalAddr()); ok {
				conns = append(conns, neighbours.Conn{Index: s.index, Gen: s.gen, Local: local.Addr(), Remote: s.pod.id.Address.Addr()})
			}
		}
		s.mu.Unlock()
	}
	return conns
}
