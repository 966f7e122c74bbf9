package dataplane

// Under is how many messages of a function the programs have: in flight, or waiting for a slot.
func (p *Plane) Under(function string) (n int) {
	p.queues.mu.Lock()
	if q := p.queues.byName[function]; q != nil {
		n = q.Count()
	}
	p.queues.mu.Unlock()
	for ps := range p.table.All() {
		if ps.id.Function != function {
			continue
		}
		for _, s := range ps.slots {
			n += int(s.inFlight())
		}
	}
	return n
}
