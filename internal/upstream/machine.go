package upstream

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	"eproxy/internal/config"
)

// State is where a pod is in its life. What has gone is not known any more.
type State int

// The states. Only a Ready pod gets messages.
const (
	Discovered State = iota + 1 // it is wanted, and its probe has not succeeded yet
	Ready
	Suspect // it has failed again and again, and rests until a probe succeeds
	Drained // an operator wants it to get none
)

func (s State) String() string {
	return [...]string{"", "discovered", "ready", "suspect", "drained"}[s]
}

const (
	// A pod is probed every eagerly at first, eagerTries times; then after twice as long
	// each time, up to slowly.
	eagerly    = 20 * time.Millisecond
	eagerTries = 50
	slowly     = 5 * time.Second
	// A pod is suspect after so many failures in a row. It rests for restMin before it
	// is probed, twice as long when that happens again, up to restMost; after
	// forgiven in service that is forgotten.
	failureLimit = 5
	restMin      = 500 * time.Millisecond
	restMost     = 30 * time.Second
	forgiven     = time.Minute
)

// ID names a pod of a function.
type ID struct {
	Function string
	Address  netip.AddrPort
}

// Pod is a pod as it is shown.
type Pod struct {
	ID
	State  State
	Reason string    // of the state; empty where it needs none
	Since  time.Time // when it came into the state
}

// pod is a pod of the machine's. One that goes and comes back is another.
type pod struct {
	Pod
	identity string // of config.Identities, when it came or was known first
	probe    string
	failures int       // in a row
	answered uint64    // requests that it had answered elsewhere when the first of these came
	rests    int       // in a row
	tries    int       // probes that failed since it came into its state
	at       time.Time // when the next one is due; Discovered and Suspect
	probing  bool
}

// enter brings a pod into a state.
func (p *pod) enter(s State, reason string, now time.Time) {
	p.State, p.Reason, p.Since, p.tries, p.failures = s, reason, now, 0, 0
}

// Machine is the life of all pods. Time is what its caller says.
type Machine struct {
	pods    map[ID]*pod
	unready map[ID]*pod // those that are not Ready
	failing map[ID]*pod // those that have failed, and not succeeded since
	paused  map[string]bool
	notice  func(Pod) // of a pod that has come into another state, or is in it for another reason

	functions, functionsBefore map[string]*config.Function // of the latest Want, and of the one before
	undo                       []was                       // what the latest one has changed, the oldest first
	touched                    map[string]bool             // functions of whose pods some may have come, gone, or changed its state
}

// NewMachine makes a machine without pods. notice is called for each change of a
// pod's state, and for some of its reason.
func NewMachine(notice func(Pod)) *Machine {
	return &Machine{pods: make(map[ID]*pod), unready: make(map[ID]*pod), failing: make(map[ID]*pod), notice: notice, touched: make(map[string]bool)}
}

// Want says which pods there are to be, and which functions are paused. Those that
// stay keep their state. A function that is the same one (the same pointer) as before has the same pods.
func (m *Machine) Want(functions []*config.Function, now time.Time) {
	m.undo, m.functionsBefore = nil, m.functions
	m.functions = make(map[string]*config.Function, len(functions))
	m.paused = make(map[string]bool)
	for _, fn := range functions {
		m.functions[fn.Name] = fn
		m.paused[fn.Name] = fn.Paused
		if old := m.functionsBefore[fn.Name]; old != fn {
			m.touched[fn.Name] = true
			m.wantPods(fn, old, now)
		}
	}
	for name, old := range m.functionsBefore {
		if m.functions[name] == nil {
			m.wantPods(&config.Function{Name: name}, old, now)
		}
	}
	for name := range m.touched { // of the others no pod has another state
		if m.count(name, Ready) == 0 {
			m.relent(name, now)
		}
	}
}

// file notes what a pod is like now, so that nobody has to look for it among all.
func (m *Machine) file(id ID) {
	p := m.pods[id]
	enter(m.unready, id, p, p != nil && p.State != Ready)
	enter(m.failing, id, p, p != nil && p.failures > 0)
}

func enter(in map[ID]*pod, id ID, p *pod, is bool) {
	if is {
		in[id] = p
	} else {
		delete(in, id)
	}
}

// wantPods has the machine know a function's pods; old is the function as it was, or nil.
func (m *Machine) wantPods(fn, old *config.Function, now time.Time) {
	wanted := make(map[netip.AddrPort]bool, len(fn.Pods))
	for _, a := range fn.Pods {
		id := ID{fn.Name, a}
		wanted[a] = true
		m.forgetReused(id, fn.Identities[a])
		m.want(id, fn.Probe, slices.Contains(fn.Drain, a), now)
		if p := m.pods[id]; p.identity == "" {
			p.identity = fn.Identities[a]
		}
	}
	if old == nil {
		return
	}
	for _, a := range old.Pods {
		if !wanted[a] {
			m.forget(ID{fn.Name, a})
		}
	}
}

// forget forgets a pod.
func (m *Machine) forget(id ID) {
	m.note(id)
	delete(m.pods, id)
	m.file(id)
}

// forgetReused forgets a pod whose address is another's now: what it has failed, and that it
// rests, is not the other's.
func (m *Machine) forgetReused(id ID, identity string) {
	if p := m.pods[id]; p != nil && config.Reused(p.identity, identity) {
		m.forget(id)
	}
}

// want has the machine know a pod.
func (m *Machine) want(id ID, probe string, drain bool, now time.Time) {
	p := m.pods[id]
	if p == nil || p.State == Drained && !drain { // whoever was drained comes back as a new one
		m.note(id)
		p = &pod{Pod: Pod{ID: id}}
		m.pods[id] = p
	} else if p.probe != probe || drain && p.State != Drained {
		m.note(id)
	}
	p.probe = probe
	switch {
	case drain && p.State != Drained:
		m.move(p, Drained, "as an operator wants it", now)
	case drain:
	case p.State == 0 && probe != "":
		p.at = now
		m.move(p, Discovered, "not probed yet", now)
	case p.State == 0, p.State == Discovered && probe == "":
		m.move(p, Ready, "", now)
	}
}

func (m *Machine) move(p *pod, s State, reason string, now time.Time) {
	p.enter(s, reason, now)
	m.file(p.ID)
	m.touched[p.Function] = true
	m.notice(p.Pod)
}

// count is how many pods of a function are in a state.
func (m *Machine) count(function string, s State) (n int) {
	for p := range m.of(function) {
		if p.State == s {
			n++
		}
	}
	return n
}

// of are the pods of a function.
func (m *Machine) of(function string) iter.Seq[*pod] {
	return func(yield func(*pod) bool) {
		fn := m.functions[function]
		if fn == nil {
			return
		}
		for _, a := range fn.Pods {
			if p := m.pods[ID{function, a}]; p != nil && !yield(p) {
				return
			}
		}
	}
}

// relent has the suspect pods of a function that has no ready one get messages: one that
// fails is better than none.
func (m *Machine) relent(function string, now time.Time) {
	for p := range m.of(function) {
		if p.State == Suspect {
			m.move(p, Ready, "the function has no other pod", now)
		}
	}
}

// was is what a pod was before Want has changed it; nil: there was none.
type was struct {
	id   ID
	pod  *pod
	then pod
}

// note notes what a pod is that Want is about to change.
func (m *Machine) note(id ID) {
	w := was{id: id, pod: m.pods[id]}
	if w.pod != nil {
		w.then = *w.pod
	}
	m.undo = append(m.undo, w)
}

// restore undoes what the latest Want has done: the pods of then are there and no others, and those
// that it has moved are where they were.
func (m *Machine) restore() {
	for _, w := range slices.Backward(m.undo) {
		m.touched[w.id.Function] = true
		p := w.pod
		if p == nil {
			delete(m.pods, w.id)
			m.file(w.id)
			continue
		}
		if m.pods[w.id] != p {
			m.pods[w.id] = p
			p.probing = false // how its probe ended was not noted
		}
		if p.State == Drained && w.then.State != Drained || p.probe != w.then.probe {
			*p = w.then
			p.probing = false
		}
		m.file(w.id)
	}
	m.undo, m.functions = nil, m.functionsBefore
}

// Probe is a probe that is to be made.
type Probe struct {
	ID
	What string // Function.Probe
	pod  *pod
}

// Due are the probes that are to be made now. Each ends with Probed.
func (m *Machine) Due(now time.Time) (due []Probe) {
	for id, p := range m.unready {
		if m.waits(p) && !p.at.After(now) {
			p.probing = true
			due = append(due, Probe{id, p.probe, p})
		}
	}
	return due
}

// waits says whether a pod is to be probed, now or later.
func (*Machine) waits(p *pod) bool {
	return (p.State == Discovered || p.State == Suspect) && !p.probing
}

// Next is when the next probe is due; false: none is.
func (m *Machine) Next() (at time.Time, ok bool) {
	for _, p := range m.unready {
		if m.waits(p) && (!ok || p.at.Before(at)) {
			at, ok = p.at, true
		}
	}
	return at, ok
}

// Probed says how a probe ended.
func (m *Machine) Probed(x Probe, err error, now time.Time) {
	p := m.pods[x.ID]
	if p != x.pod { // that pod is gone
		return
	}
	p.probing = false
	if p.State != Discovered && p.State != Suspect {
		return
	}
	if err == nil {
		m.move(p, Ready, "", now)
		return
	}
	p.tries++
	p.at = now.Add(pace(p.tries))
	if old := p.Reason; old != err.Error() {
		p.Reason = err.Error()
		if p.tries&(p.tries-1) == 0 { // ever more seldom, should it be another each time
			m.notice(p.Pod)
		}
	}
}

// pace is how long after so many failed probes the next one comes.
func pace(tries int) time.Duration {
	if tries < eagerTries {
		return eagerly
	}
	return min(eagerly<<min(tries-eagerTries, 20), slowly)
}

// Failed notes a request that a pod has failed. answered is how many it has answered of
// which the machine is not told, so far: if these are more than at its first failure in
// a row, that was not in a row. It says whether the pod rests from now on.
func (m *Machine) Failed(id ID, answered uint64, why string, now time.Time) (rests bool) {
	p := m.pods[id]
	if p == nil || p.State != Ready {
		return false
	}
	if p.failures == 0 || answered != p.answered {
		p.failures, p.answered = 0, answered
	}
	p.failures++
	m.file(id)
	if p.failures < failureLimit || !m.maySpare(id.Function) {
		return false
	}
	if now.Sub(p.Since) >= forgiven {
		p.rests = 0
	}
	p.at = now.Add(min(restMin<<min(p.rests, 20), restMost))
	p.rests++
	m.move(p, Suspect, why, now)
	return true
}

// Failing says whether some pod has failed and not succeeded since: only then successes
// matter.
func (m *Machine) Failing() bool { return len(m.failing) > 0 }

// maySpare says whether one more pod of a function may rest: never more than half.
func (m *Machine) maySpare(function string) bool {
	resting := m.count(function, Suspect)
	return 2*(resting+1) <= m.count(function, Ready)+resting
}

// Succeeded notes a request that a pod has answered.
func (m *Machine) Succeeded(id ID) {
	if p := m.pods[id]; p != nil {
		p.failures = 0
		m.file(id)
	}
}

// Serves says whether a pod is to get messages.
func (m *Machine) Serves(id ID) bool {
	p := m.pods[id]
	return p != nil && p.State == Ready && !m.paused[id.Function]
}

// Unserved are the pods that get no messages, in any order.
func (m *Machine) Unserved() (out []Pod) {
	for _, p := range m.unready {
		out = append(out, p.Pod)
	}
	for name, paused := range m.paused {
		if !paused {
			continue
		}
		for p := range m.of(name) {
			if p.State == Ready {
				out = append(out, p.Pod)
			}
		}
	}
	return out
}

// Pods are all pods, by function and address.
func (m *Machine) Pods() []Pod {
	out := make([]Pod, 0, len(m.pods))
	for _, p := range m.pods {
		out = append(out, p.Pod)
	}
	slices.SortFunc(out, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), a.Address.Compare(b.Address))
	})
	return out
}
