package instances

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"eproxy/internal/config"
)

// retry is how long a function waits whose instances cannot even be begun.
const retry = 5 * time.Second

// Follow runs the instances of a function until ctx ends, and returns when they have.
// found is called with the addresses of those that are ready: when each of the first ones is, or has failed
// once, and then whenever they are others. failed is called while none can be begun. spec
// is the function's config.Run.Key.
func (r *Runtime) Follow(ctx context.Context, function, spec string, found func([]netip.AddrPort), failed func(error)) {
	var run config.Run
	if err := json.Unmarshal([]byte(spec), &run); err != nil {
		failed(fmt.Errorf("what to run: %w", err))
		return
	}
	s := &set{r: r, name: function, run: &run, found: found, failed: failed, news: make(chan struct{}, 1)}
	s.nursery = newNursery(s)
	s.function = r.know(s)
	defer r.forget(s)
	defer s.nursery.close()
	s.keep(ctx)
}

// set are the instances of one function that are run in one way.
type set struct {
	*function
	r       *Runtime
	nursery *nursery
	name    string
	run     *config.Run
	found   func([]netip.AddrPort)
	failed  func(error)
	news    chan struct{} // sent to when there may be something to decide

	running  sync.WaitGroup
	mu       sync.Mutex
	all      []*instance // in the order that they were begun in
	answered bool
}

// keep has as many instances as the function needs until ctx ends, and returns when they have ended.
func (s *set) keep(ctx context.Context) {
	defer s.running.Wait()
	for {
		want, look := s.want()
		if err := s.resize(ctx, want); err != nil {
			look = min(look, retry)
		}
		again := time.NewTimer(look)
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-s.news:
			again.Stop()
		case <-again.C:
		}
	}
}

// poke has want asked again.
func (s *set) poke() {
	select {
	case s.news <- struct{}{}:
	default: // it will be
	}
}

// resize begins instances, or ends some, so that there are so many.
func (s *set) resize(ctx context.Context, want int) error {
	s.mu.Lock()
	all := s.staying()
	s.mu.Unlock()
	for n := len(all); n < want; n++ {
		i, err := s.r.reserve(s)
		if err != nil {
			s.short(err, n)
			return err
		}
		s.begin(ctx, i)
	}
	for _, i := range s.surplus(all, want) {
		i.end()
	}
	s.fit()
	if want == 0 { // which is all that there is to know
		s.tell()
	}
	return nil
}

// short says that there is no room for more instances than n.
func (s *set) short(err error, n int) {
	s.lacks(err)
	switch {
	case errors.Is(err, errEnding): // it is a matter of a moment
		return
	case errors.Is(err, errSpent): // whose pods are known: there are none
		s.tell()
	case n == 0:
		s.failed(err)
		return
	}
	s.r.often.Warn("function has fewer instances than it needs", s.name, "function", s.name, "instances", n, "error", err)
}

// staying are the instances that are not to end. s.mu is held.
func (s *set) staying() (out []*instance) {
	for _, i := range s.all {
		if !i.ending {
			out = append(out, i)
		}
	}
	return out
}

// begin has an instance live until it is ended, or ctx ends.
func (s *set) begin(ctx context.Context, i *instance) {
	ctx, cancel := context.WithCancel(ctx)
	i.changed, i.cancel = s.changed, cancel
	s.mu.Lock()
	s.all = append(s.all, i)
	s.mu.Unlock()
	s.nursery.use()
	s.running.Go(func() {
		defer cancel()
		i.live(ctx)
		s.nursery.leave()
		s.mu.Lock()
		s.all = slices.DeleteFunc(s.all, func(x *instance) bool { return x == i })
		s.mu.Unlock()
		s.r.release(i)
		s.r.left(s.name)
		s.changed()
	})
}

// surplus are the instances to end, so that so many are left: first those that serve nobody, then those that sleep,
// then the latest.
func (s *set) surplus(all []*instance, want int) []*instance {
	if len(all) <= want {
		return nil
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	rank := map[State]int{Failed: -6, Starting: -5, PagedOut: -4, Frozen: -3, Dozing: -2}
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b *instance) int { return rank[a.status.State] - rank[b.status.State] })
	return all[:len(all)-want]
}

// changed is called when an instance has come into another state.
func (s *set) changed() {
	s.poke()
	s.tell()
}

// tell says which instances are pods, if that is known of all.
func (s *set) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	pods, unknown := []netip.AddrPort{}, 0
	for _, i := range s.all {
		i.r.mu.Lock()
		if i.status.Pod {
			pods = append(pods, i.status.Address)
		} else if i.status.State == Starting {
			unknown++
		}
		i.r.mu.Unlock()
	}
	if s.answered = s.answered || unknown == 0; s.answered {
		slices.SortFunc(pods, netip.AddrPort.Compare)
		s.found(pods)
	}
}

// reserve makes an instance, without running it.
func (r *Runtime) reserve(s *set) (*instance, error) {
	if err := r.prepare(); err != nil {
		return nil, err
	}
	r.budget.mu.Lock() // until the instance counts
	defer r.budget.mu.Unlock()
	if err := r.room(s); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := 1; n <= r.network.capacity(); n++ {
		if r.used[n] != nil {
			continue
		}
		i := &instance{r: r, function: s.name, of: s, run: s.run, number: n, wake: make(chan struct{}, 1)}
		i.status = Status{Function: s.name, Instance: n, Address: netip.AddrPortFrom(r.network.address(n), s.run.Port), State: Starting, Memory: s.run.Memory}
		r.used[n] = i
		return i, nil
	}
	return nil, fmt.Errorf("runtime.addresses %s has too few addresses for one instance more", r.network.addresses)
}

// release forgets an instance that has ended.
func (r *Runtime) release(i *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.used, i.number)
}
