package pool

import "net/netip"

// EachInFlight tells the requests in flight to each pod that nobody else uses: those
// to the others are in what is shared.
func (s *Standalone) EachInFlight(each func(function string, pod netip.AddrPort, n int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.functions {
		for _, p := range f.pods {
			if p.shared == nil {
				each(name, p.addr, p.used)
			}
		}
	}
}
