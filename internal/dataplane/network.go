package dataplane

// settleNetwork has the network follow the pods that are in service. p.mu is held.
func (p *Plane) settleNetwork() {
	redirects, used, last := false, make(map[int]bool), 0
	for ps := range p.table.All() {
		redirects = redirects || ps.mem.XdpOk != 0
		if ps.ifindex != last { // many pods may be behind one interface
			last = ps.ifindex
			used[last] = true
		}
	}
	p.net.SettleXDP(redirects)
	for ps := range p.table.All() {
		if ps.draining.Load() && p.net.LosesGRO(ps.ifindex) {
			ps.mem.XdpOk = 0 // the others were told when they were placed
		}
	}
	if restored := p.net.KeepGRO(used); len(restored) > 0 {
		p.pods.AgainBehind(restored)
		p.net.Look()
	}
}

// reachedFirst is called when the first connection to a pod is there. A process of
// the pod is there, too, then, by which its network namespace can be found.
func (p *Plane) reachedFirst(ps *podState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ps.lacks.Load() {
		p.pods.Again(ps.id)
		p.net.Look()
	}
}
