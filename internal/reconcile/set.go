package reconcile

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"eproxy/internal/abi"
	"eproxy/internal/config"
	"eproxy/internal/reach"
)

// ErrUsedUp is what World.Add returns if there is no entry for one pod more.
var ErrUsedUp = errors.New("is used up")

// ID names a pod of a function.
type ID struct {
	Function string
	Address  netip.AddrPort
}

// World is what is done to pods. P is one that is in service.
type World[P any] interface {
	// Reach finds out how an address is reached now.
	Reach(netip.Addr) reach.Path
	// Add brings a pod into service behind an interface. ErrUsedUp: there is no room.
	Add(fn *config.Function, addr netip.AddrPort, ifindex int) (P, error)
	// Improve does what makes a pod's path better, and says how the pod is to be served
	// from now on, and how the network has it.
	Improve(pod P, path reach.Path) (served, found reach.Path)
	// Update gives a pod its function's configuration and its path.
	Update(pod P, fn *config.Function, path reach.Path)
	// Drain ends the service of a pod that is not wanted any more: what it has in flight ends.
	Drain(P)
	// Remove ends the service of one whose connections lead nowhere.
	Remove(P)
}

// placed is a pod in service.
type placed[P any] struct {
	pod      P
	ifindex  int
	identity string // of config.Identities, when it came or was known first
}

// unseen notes that the programs do not see the connections of a pod behind an interface.
type unseen struct {
	ifindex int
	reason  string
}

// Set is the pods in service.
type Set[P any] struct {
	world  World[P]
	log    *slog.Logger
	pods   map[ID]placed[P]
	moved  []P               // that others have taken the places of; they serve until the programs know these
	paths  map[ID]reach.Path // of all pods, as they are served
	found  map[ID]reach.Path // the same, as the network alone has them
	unseen map[ID]unseen
	short  []ID // pods that could be in service and have no room

	done  map[string]*config.Function // by name, as the latest Step has them
	again map[string]bool             // functions that are looked at though they are the same
	all   bool                        // all of them are
}

// New makes a Set without pods.
func New[P any](w World[P], log *slog.Logger) *Set[P] {
	return &Set[P]{world: w, log: log, pods: make(map[ID]placed[P]), paths: make(map[ID]reach.Path), found: make(map[ID]reach.Path), unseen: make(map[ID]unseen),
		done: make(map[string]*config.Function), again: make(map[string]bool), all: true}
}

// Changed are those of some functions that the next Step looks at: all others are the same
// (the same pointer) as in the latest one, and so are their pods. It is not nil, which would mean all.
func (s *Set[P]) Changed(functions []*config.Function) []*config.Function {
	out := []*config.Function{}
	for _, fn := range functions {
		if s.all || s.done[fn.Name] != fn || s.again[fn.Name] {
			out = append(out, fn)
		}
	}
	return out
}

// Step brings the pods of functions into service, has serve let the programs use these and
// no others, by function in the order of its pods (those in service first where these are too many), and takes out of service what is not
// among them. serve is told of the functions that are Changed or gone alone. After an error of serve
// the programs use the pods of before, and what has come is in service already.
func (s *Set[P]) Step(functions []*config.Function, serve func(map[string][]P) error) error {
	changed := s.Changed(functions)
	s.forgetShort(functions, changed)
	lists := make(map[string][]P, len(changed))
	for name := range s.gone(functions) {
		lists[name] = nil
	}
	for _, fn := range changed {
		var list []P
		for _, addr := range s.order(fn) {
			if pod, ok := s.place(fn, addr, len(list)); ok {
				list = append(list, pod)
			}
		}
		lists[fn.Name] = list
	}
	if err := serve(lists); err != nil {
		s.all = true // what is in service is not what was served
		return err
	}
	s.dropMoved()
	if s.all {
		s.dropAll(functions)
	} else {
		s.dropOld(functions, changed)
	}
	s.all = false
	s.done = make(map[string]*config.Function, len(functions))
	for _, fn := range functions {
		s.done[fn.Name] = fn
	}
	return nil
}

// order is a function's pods in the order in which they are placed. Where not all of them have a place those that have one keep it: a
// pod that comes takes nobody's.
func (s *Set[P]) order(fn *config.Function) []netip.AddrPort {
	if len(fn.Pods) <= abi.PodsPerFunction {
		return fn.Pods
	}
	in, out := make([]netip.AddrPort, 0, len(fn.Pods)), []netip.AddrPort(nil)
	for _, addr := range fn.Pods {
		if _, ok := s.pods[ID{fn.Name, addr}]; ok {
			in = append(in, addr)
		} else {
			out = append(out, addr)
		}
	}
	return append(in, out...)
}

// gone are the functions of the latest Step that are not among these.
func (s *Set[P]) gone(functions []*config.Function) map[string]*config.Function {
	gone := maps.Clone(s.done)
	for _, fn := range functions {
		delete(gone, fn.Name)
	}
	return gone
}

// forgetShort forgets which pods had no room and are looked at now, or are gone.
func (s *Set[P]) forgetShort(functions, changed []*config.Function) {
	same := make(map[string]bool, len(functions))
	for _, fn := range functions {
		same[fn.Name] = true
	}
	for _, fn := range changed {
		delete(same, fn.Name)
	}
	s.short = slices.DeleteFunc(s.short, func(id ID) bool { return !same[id.Function] })
	maps.DeleteFunc(s.again, func(name string, _ bool) bool { return !same[name] })
}

// place has a pod in service if the kernel path reaches it; else it is the fallback's.
// How one is reached that is placed already is only found out again if that is not
// known any more. others is how many pods of the function the programs have already.
func (s *Set[P]) place(fn *config.Function, addr netip.AddrPort, others int) (pod P, ok bool) {
	id := ID{fn.Name, addr}
	path, known := s.reach(id)
	if others == abi.PodsPerFunction {
		path = path.Left("the kernel path holds %d pods of one function", others)
	}
	now, ok := s.pods[id]
	if ok && (path.Way == reach.Fallback || path.Ifindex != now.ifindex || config.Reused(now.identity, fn.Identities[addr])) {
		s.move(id)
		ok = false
	}
	if !ok && path.Way != reach.Fallback {
		var err error
		if now, err = s.add(fn, id, path.Ifindex); err != nil {
			path = path.Left("%v", err)
		}
		ok = err == nil
	}
	if ok {
		s.know(id, fn.Identities[addr])
		if old := s.paths[id]; known && old.GRO && old.Ifindex == path.Ifindex {
			old.Far = path.Far
			path = old // that has been tried
		} else {
			path, s.found[id] = s.world.Improve(now.pod, path)
		}
	}
	path.Far = fn.Places.Far(addr, path.Far)
	if ok {
		s.world.Update(now.pod, fn, path)
	}
	s.setPath(id, path)
	return now.pod, ok
}

// reach is how the network has a pod, and whether that was known.
func (s *Set[P]) reach(id ID) (path reach.Path, known bool) {
	path, known = s.found[id]
	if !known {
		path = s.world.Reach(id.Address.Addr())
		s.found[id] = path
	}
	if u, ok := s.unseen[id]; ok && u.ifindex == path.Ifindex {
		path = path.Left("%s", u.reason)
	}
	return path, known
}

func (s *Set[P]) add(fn *config.Function, id ID, ifindex int) (placed[P], error) {
	pod, err := s.world.Add(fn, id.Address, ifindex)
	if errors.Is(err, ErrUsedUp) {
		s.short = append(s.short, id)
	}
	if err != nil {
		s.again[fn.Name] = true
		return placed[P]{}, err
	}
	now := placed[P]{pod, ifindex, fn.Identities[id.Address]}
	s.pods[id] = now
	return now, nil
}

// know notes the identity of a pod that was not known before.
func (s *Set[P]) know(id ID, identity string) {
	if now := s.pods[id]; now.identity == "" {
		now.identity = identity
		s.pods[id] = now
	}
}

// move has a pod's place given up for another one.
func (s *Set[P]) move(id ID) {
	s.moved = append(s.moved, s.pods[id].pod)
	delete(s.pods, id)
}

// setPath notes how a pod is served, and logs what is new about it.
func (s *Set[P]) setPath(id ID, path reach.Path) {
	old, known := s.paths[id]
	s.paths[id] = path
	if known && old.Way == path.Way && old.Reason == path.Reason {
		return
	}
	switch {
	case path.Way == reach.Fallback:
		s.log.Warn("pod is served by the fallback", "function", id.Function, "pod", id.Address, "reason", path.Reason)
	case known && old.Way == reach.Fallback:
		s.log.Info("pod is served by the kernel path from now on", "function", id.Function, "pod", id.Address)
	case known && path.Way == reach.XDP:
		s.log.Info("messages for a pod are taken at XDP", "function", id.Function, "pod", id.Address)
	case path.Reason != "":
		s.log.Info("messages for a pod are taken at TC", "function", id.Function, "pod", id.Address, "reason", path.Reason)
	}
}

// dropMoved ends the service of pods that others have taken the places of.
func (s *Set[P]) dropMoved() {
	moved := s.moved
	s.moved = nil
	for _, pod := range moved {
		s.world.Remove(pod)
	}
}

// dropOld takes out of service what the programs do not use any more, where that is known: of functions
// that have changed, and of those that are gone.
func (s *Set[P]) dropOld(functions, changed []*config.Function) {
	for name, old := range s.gone(functions) {
		s.dropPods(name, old.Pods, nil)
	}
	for _, fn := range changed {
		if old := s.done[fn.Name]; old != nil && old != fn {
			s.dropPods(fn.Name, old.Pods, fn.Pods)
		}
	}
}

// dropPods takes those of a function's pods out of service that do not stay.
func (s *Set[P]) dropPods(function string, pods, stay []netip.AddrPort) {
	kept := make(map[netip.AddrPort]bool, len(stay))
	for _, a := range stay {
		kept[a] = true
	}
	for _, a := range pods {
		if kept[a] {
			continue
		}
		id := ID{function, a}
		if now, ok := s.pods[id]; ok {
			delete(s.pods, id)
			s.world.Drain(now.pod)
		}
		delete(s.paths, id)
		delete(s.found, id)
		delete(s.unseen, id)
	}
}

// dropAll takes out of service whatever the programs do not use any more.
func (s *Set[P]) dropAll(functions []*config.Function) {
	wanted := make(map[ID]bool)
	for _, fn := range functions {
		for _, a := range fn.Pods {
			wanted[ID{fn.Name, a}] = true
		}
	}
	for id, now := range s.pods {
		if !wanted[id] {
			delete(s.pods, id)
			s.world.Drain(now.pod)
		}
	}
	unwanted := func(id ID) bool { return !wanted[id] }
	maps.DeleteFunc(s.paths, func(id ID, _ reach.Path) bool { return unwanted(id) })
	maps.DeleteFunc(s.found, func(id ID, _ reach.Path) bool { return unwanted(id) })
	maps.DeleteFunc(s.unseen, func(id ID, _ unseen) bool { return unwanted(id) })
}

// Get is a pod that is in service.
func (s *Set[P]) Get(id ID) (pod P, ok bool) {
	now, ok := s.pods[id]
	return now.pod, ok
}

// Path is how a pod is served; zero: it is not known.
func (s *Set[P]) Path(id ID) reach.Path { return s.paths[id] }

// Again has the next Step look at how a pod is reached, as if it had moved.
func (s *Set[P]) Again(id ID) {
	delete(s.found, id)
	s.again[id.Function] = true
}

// AgainBehind is Again for all pods behind some interfaces.
func (s *Set[P]) AgainBehind(ifindexes []int) {
	for id, path := range s.found {
		if slices.Contains(ifindexes, path.Ifindex) {
			s.Again(id)
		}
	}
}

// AgainAll is Again for all pods, also of those that the programs did not see.
func (s *Set[P]) AgainAll() {
	clear(s.unseen)
	clear(s.found)
	s.all = true
}

// AgainShort is Again for the pods that there was no room for, and says whether there
// are any.
func (s *Set[P]) AgainShort() bool {
	for _, id := range s.short {
		s.Again(id)
	}
	return len(s.short) > 0
}

// Moved says whether some pod is reached in another way than when it was placed, or was to be
// looked at Again, by what a look at the network has found. (Pods that came since are not in it, and were looked at then.)
func (s *Set[P]) Moved(functions []*config.Function, looked map[netip.Addr]reach.Path) (any bool) {
	for _, fn := range functions {
		for _, a := range fn.Pods {
			id := ID{fn.Name, a}
			if path, ok := looked[a.Addr()]; ok && path != s.found[id] {
				s.Again(id)
				any = true
			}
		}
	}
	return any
}

// LeaveUnseen leaves a pod to the fallback from the next Step on, for a reason: until
// AgainAll, or until it is behind another interface than this.
func (s *Set[P]) LeaveUnseen(id ID, ifindex int, reason string) {
	s.unseen[id] = unseen{ifindex, reason}
	s.Again(id)
}
