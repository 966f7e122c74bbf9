package instances

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"eproxy/internal/predict"
)

// budgetLook is how often it is looked whether instances that run have come to take more than their budget.
const budgetLook = 2 * time.Second

// budget is the memory that all instances of this loader have together, and who has to give some of it up.
type budget struct {
	limit int64 // bytes; 0: there is none

	mu       sync.Mutex // held from a look at the memory until what follows from it is done; before set.mu and Runtime.mu
	eviction *predict.Eviction
	evicted  map[string]uint64 // instances that were stopped for others, by function
}

func newBudget(limit int64) budget {
	return budget{limit: limit, eviction: predict.NewEviction(), evicted: make(map[string]uint64)}
}

// Why there is no room for an instance: that it is made, and that it cannot be yet.
var (
	errEnding = errors.New("the memory that it needs is that of instances that are ending")
	errSpent  = errors.New("runtime.memory is spent")
)

// tenant is a function with instances, as the budget sees it.
type tenant struct {
	set    *set
	memory int64 // of instances that are not ending
	idle   bool  // it can be stopped: it has no work, and need not be there
}

// tenancy is the memory that instances take.
type tenancy struct {
	tenants map[string]*tenant
	ending  int64 // of instances that are: it is free soon
}

// staying is what those take that are not ending.
func (x *tenancy) staying() (sum int64) {
	for _, t := range x.tenants {
		sum += t.memory
	}
	return sum
}

// idle is how much of that could be had.
func (x *tenancy) idle() (sum int64) {
	for _, t := range x.tenants {
		if t.idle {
			sum += t.memory
		}
	}
	return sum
}

// tenancy looks at all instances. r.budget.mu is held.
func (r *Runtime) tenancy() *tenancy {
	type found struct {
		i     *instance
		state State
	}
	r.mu.Lock()
	var all []found
	for _, i := range r.used {
		all = append(all, found{i, i.status.State})
	}
	latest := make(map[string]*set)
	var sets []*set
	for name, f := range r.known {
		latest[name] = f.latest()
		sets = append(sets, f.sets...)
	}
	r.mu.Unlock()
	x := &tenancy{tenants: make(map[string]*tenant)}
	for _, f := range all {
		memory := f.i.takes(f.state)
		f.i.of.mu.Lock()
		ending := f.i.ending || f.state == Stopping
		f.i.of.mu.Unlock()
		if ending {
			x.ending += memory
			continue
		}
		t := x.of(f.i.of)
		t.memory += memory
		t.idle = t.idle && f.state != Starting && latest[f.i.function] == f.i.of
	}
	for _, s := range sets {
		switch memory := s.nursery.memory(); {
		case memory == 0:
		case latest[s.name] != s:
			x.ending += memory
		default:
			x.of(s).memory += memory
		}
	}
	return x
}

// of is the tenant that a set is of.
func (x *tenancy) of(s *set) *tenant {
	t := x.tenants[s.name]
	if t == nil {
		t = &tenant{set: s, idle: !s.r.needed(s)}
		x.tenants[s.name] = t
	}
	return t
}

// needed says whether a function has work, or is to have instances without any.
func (r *Runtime) needed(s *set) bool {
	load := r.load.Load()
	return s.run.Min > 0 || load == nil || (*load)(s.name).Requests > 0
}

// takes is how much memory an instance takes, and will: one that is being started takes what its function's have taken, or might.
func (i *instance) takes(state State) int64 {
	used := i.group().MemoryUsed()
	f := i.of.function
	f.mu.Lock()
	defer f.mu.Unlock()
	if state == Starting {
		return max(used, f.takes(i.run.Memory))
	}
	f.most = max(f.most, used)
	return used
}

// takes is how much memory an instance is taken to need that is started; limit if none was there yet. f.mu is held.
func (f *function) takes(limit int64) int64 {
	if f.most == 0 {
		return limit
	}
	return min(f.most, limit)
}

// room says what hinders that a function has one instance more; idle functions are stopped for it. r.budget.mu is held.
func (r *Runtime) room(s *set) error {
	if r.budget.limit == 0 {
		return nil
	}
	s.function.mu.Lock()
	need := s.takes(s.run.Memory)
	s.function.mu.Unlock()
	x := r.tenancy()
	if err := r.free(x, need, s.name); err != nil {
		return err
	}
	if taken := x.staying() + x.ending; taken+need > r.budget.limit {
		return errEnding
	}
	if !r.budget.eviction.Knows(s.name) {
		s.worth(&r.budget)
	}
	return nil
}

// free has idle functions stopped until there is room for need bytes; if that cannot be, none is. r.budget.mu is held.
func (r *Runtime) free(x *tenancy, need int64, forWhom string) error {
	free := r.budget.limit - x.staying()
	if free+x.idle() < need {
		return fmt.Errorf("%w: %d of %d MiB are taken by functions that have work, or are always there, and it needs %d",
			errSpent, (x.staying()-x.idle())>>20, r.budget.limit>>20, need>>20)
	}
	for name, t := range x.tenants { // what an instance takes is known only after its first use
		if t.idle && t.memory > 0 {
			r.budget.eviction.Weigh(name, t.set.cost(), float64(t.memory))
		}
	}
	may := func(name string) bool { return x.tenants[name] != nil && x.tenants[name].idle }
	size := func(name string) float64 { return float64(x.tenants[name].memory) }
	given, _ := predict.Room(r.budget.eviction, float64(need), float64(free), may, size)
	for _, name := range given {
		t := x.tenants[name]
		r.log.Info("idle function is stopped, its memory is needed", "function", name, "mib", t.memory>>20, "for", forWhom)
		r.budget.evicted[name] += uint64(t.set.give())
		x.ending += t.memory
		delete(x.tenants, name)
	}
	return nil
}

// roomForZygote says what hinders that there is a zygote more, which counts already: for one nothing is stopped.
func (r *Runtime) roomForZygote() error {
	if r.budget.limit == 0 {
		return nil
	}
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	if x := r.tenancy(); x.staying()+x.ending > r.budget.limit {
		return fmt.Errorf("%w: %d of %d MiB would be taken with it", errSpent, (x.staying()+x.ending)>>20, r.budget.limit>>20)
	}
	return nil
}

// worth tells the budget that the function is used: what a start costs, for what memory.
func (s *set) worth(b *budget) {
	s.function.mu.Lock()
	size := s.takes(s.run.Memory)
	s.function.mu.Unlock()
	b.eviction.Use(s.name, s.cost(), float64(size))
}

// cost is what a start of the function takes, in seconds.
func (s *set) cost() float64 {
	s.function.mu.Lock()
	defer s.function.mu.Unlock()
	return max(s.starts.quantile(0.5), time.Millisecond).Seconds()
}

// usedNow is worth, by whoever has seen a message.
func (r *Runtime) usedNow(s *set) {
	if r.budget.limit == 0 {
		return
	}
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	s.worth(&r.budget)
}

// give ends all instances of a function without work until its next message, or until one is expected, and says how many.
func (s *set) give() int {
	s.function.mu.Lock()
	s.scaler.evict(now())
	s.function.mu.Unlock()
	s.mu.Lock()
	all := s.staying()
	s.mu.Unlock()
	for _, i := range all {
		i.end()
	}
	s.nursery.give()
	return len(all)
}

// left tells the budget that an instance has ended: others may wait for its memory.
func (r *Runtime) left(function string) {
	if r.budget.limit == 0 {
		return
	}
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.tenanted(function) {
		r.budget.eviction.Remove(function)
	}
	r.offer()
}

// tenanted says whether a function has an instance, or something of a zygote; r.mu is held.
func (r *Runtime) tenanted(function string) bool {
	for _, i := range r.used {
		if i.function == function {
			return true
		}
	}
	f := r.known[function]
	return f != nil && slices.ContainsFunc(f.sets, func(s *set) bool { return s.nursery.any() })
}

// offer has functions that lack instances look again whether there is room. r.mu is held.
func (r *Runtime) offer() {
	if r.budget.limit == 0 {
		return
	}
	for _, f := range r.known {
		if s := f.latest(); s != nil {
			s.poke()
		}
	}
}

// keepBudget looks whether instances have come to take more than they are to, and stops idle functions then.
func (r *Runtime) keepBudget() {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	if err := r.free(r.tenancy(), 0, "instances that have come to take more"); err != nil {
		r.often.Warn("instances take more memory than runtime.memory", "budget", "error", err)
	}
}

// EachEvicted says how many instances of each function were stopped because others needed their memory.
func (r *Runtime) EachEvicted(each func(function string, instances uint64)) {
	r.budget.mu.Lock()
	evicted := maps.Clone(r.budget.evicted)
	r.budget.mu.Unlock()
	for name, n := range evicted {
		each(name, n)
	}
}
