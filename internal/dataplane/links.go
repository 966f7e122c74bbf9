package dataplane

import "eproxy/internal/neighbours"

// linkConns are all connections that the programs may build frames for.
func (p *Plane) linkConns() []neighbours.Conn {
	conns := p.slots.Conns()
	for _, l := range p.devices.Links() {
		conns = append(conns, neighbours.Conn{Index: l.Index, Gen: l.Gen, Local: l.Local, Remote: l.Remote})
	}
	return conns
}
