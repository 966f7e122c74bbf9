package dataplane

import (
	"maps"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
)

// PodNote says why a pod gets no messages.
type PodNote struct {
	Function string
	Address  netip.AddrPort
	State    uint32 // abi.PodDiscovered and the like
	Far      bool   // it is on another node
	Reason   string
}

// reasons is what is shown of pods that are not reached in the best way, or get no messages,
// without the loader: in a map.
type reasons struct {
	m     *ebpf.Map
	shown map[string]podReasons // by function
	notes map[string][]PodNote  // of pods that get no messages, by function
	stale map[string]bool       // functions whose notes are others than those shown
}

// podReasons is what is shown of one function's pods.
type podReasons map[bpf.EproxyPodKey]bpf.EproxyPodReason

func newReasons(m *ebpf.Map) reasons {
	return reasons{m: m, shown: make(map[string]podReasons), notes: make(map[string][]PodNote), stale: make(map[string]bool)}
}

// note takes other notes.
func (r *reasons) note(all []PodNote) {
	for name := range r.notes {
		r.stale[name] = true
	}
	r.notes = make(map[string][]PodNote)
	for _, n := range all {
		r.notes[n.Function] = append(r.notes[n.Function], n)
		r.stale[n.Function] = true
	}
}

// show shows of some functions what they are to show; of those that are nil, nothing.
func (r *reasons) show(want map[string]podReasons) error {
	for name, pods := range want { // first: there may be no more room
		for k := range r.shown[name] {
			if _, ok := pods[k]; ok {
				continue
			}
			if err := r.m.Delete(&k); err != nil {
				return err
			}
			delete(r.shown[name], k)
		}
	}
	for name, pods := range want {
		if r.shown[name] == nil {
			r.shown[name] = make(podReasons)
		}
		for k, v := range pods {
			if was, ok := r.shown[name][k]; ok && was == v {
				continue
			}
			if err := r.m.Put(&k, &v); err != nil {
				return err
			}
			r.shown[name][k] = v
		}
		if len(r.shown[name]) == 0 {
			delete(r.shown, name)
		}
	}
	return nil
}

// NotePods has the pods shown that get no messages, beside those of the next Install or
// InstallPods.
func (p *Plane) NotePods(notes []PodNote) {
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	p.installed.reasons.note(notes)
}

// reasonsOf are what is to be shown of a function's pods; installed.mu is held.
func (p *Plane) reasonsOf(fn *config.Function) podReasons {
	id, ok := p.installed.set.Function(fn.Name)
	if !ok {
		return nil
	}
	out := make(podReasons)
	show := func(n PodNote) {
		if n.Reason == "" {
			return
		}
		v := bpf.EproxyPodReason{State: n.State, Far: uint32(bpf.Flag(n.Far))}
		v.Len = uint32(copy(v.Text[:], n.Reason))
		out[bpf.EproxyPodKey{Function: id, Address: bpf.Address(n.Address.Addr()), Port: bpf.Port(n.Address.Port())}] = v
	}
	for _, a := range fn.Pods {
		path := p.installed.pods.Path(podID{Function: fn.Name, Address: a})
		show(PodNote{Function: fn.Name, Address: a, Far: path.Far, Reason: path.Reason})
	}
	for _, n := range p.installed.reasons.notes[fn.Name] {
		show(n)
	}
	return out
}

// writeReasons shows what is new about the pods of functions that have changed (nil: of all), and of those
// whose notes have. installed.mu is held.
func (p *Plane) writeReasons(cfg *config.Config, changed []*config.Function) error {
	want := make(map[string]podReasons)
	if changed == nil {
		for name := range p.installed.reasons.shown {
			want[name] = nil
		}
		changed = cfg.Functions
	}
	look := maps.Clone(p.installed.reasons.stale)
	for _, fn := range changed {
		look[fn.Name] = true
	}
	for _, fn := range cfg.Functions {
		if look[fn.Name] {
			want[fn.Name] = p.reasonsOf(fn)
		}
	}
	if err := p.installed.reasons.show(want); err != nil {
		for name := range want {
			p.installed.reasons.stale[name] = true // it is tried again with the next change
		}
		return err
	}
	clear(p.installed.reasons.stale)
	return nil
}
