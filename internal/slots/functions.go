package slots

import (
	"slices"
	"sync"
)

// functions are the pods in service by function, so that what is about one function costs what that has.
type functions struct {
	mu   sync.Mutex
	pods map[string][]*Pod // lists that are handed out never change
}

func (f *functions) add(ps *Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pods == nil {
		f.pods = make(map[string][]*Pod)
	}
	name := ps.id.Function
	f.pods[name] = append(slices.Clip(f.pods[name]), ps)
}

func (f *functions) remove(ps *Pod) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := ps.id.Function
	left := slices.DeleteFunc(slices.Clone(f.pods[name]), func(x *Pod) bool { return x == ps })
	if f.pods[name] = left; len(left) == 0 {
		delete(f.pods, name)
	}
}

func (f *functions) of(name string) []*Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[name]
}
