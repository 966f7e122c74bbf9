package dataplane

// settleNetwork has the network follow the pods that are in service. installed.mu is held.
func (p *Plane) settleNetwork() {
	net := p.installed.net
	redirects, used, last := false, make(map[int]bool), 0
	for ps := range p.slots.All() {
		redirects = redirects || ps.Redirects()
		if ps.Ifindex() != last { // many pods may be behind one interface
			last = ps.Ifindex()
			used[last] = true
		}
	}
	net.SettleXDP(redirects)
	for ps := range p.slots.All() {
		if ps.Draining() && net.LosesGRO(ps.Ifindex()) {
			ps.EndRedirects() // the others were told when they were placed
		}
	}
	if restored := net.KeepGRO(used); len(restored) > 0 {
		p.installed.pods.AgainBehind(restored)
		net.Look()
	}
}
