package instances

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"eproxy/internal/predict"
)

// Load is what a function has to do.
type Load struct {
	Requests    int // that wait for it or are in flight, on both paths
	PerInstance int // of those, how many an instance takes at a time
}

// function is what is known of a function that is followed, in whichever ways its instances are, and were, run.
type function struct {
	sets []*set // that run it, the latest last; Runtime.mu guards them

	mu       sync.Mutex
	lack     string // why there are fewer instances than there should be
	starts   starts
	arrivals arrivals
	scaler   scaler
	most     int64 // bytes that an instance was seen to take; 0: none was, or there is no budget
}

// know adds a way to run a function to what is known of it.
func (r *Runtime) know(s *set) *function {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.known[s.name]
	if f == nil {
		f = &function{}
		r.known[s.name] = f
	}
	f.sets = append(f.sets, s)
	return f
}

// forget takes it away again, and with the last one all that is known.
func (r *Runtime) forget(s *set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.sets = slices.DeleteFunc(s.sets, func(x *set) bool { return x == s })
	if len(s.sets) == 0 {
		delete(r.known, s.name)
	}
}

// wanted notes that a message waits, and says whether an instance may be begun for it; Runtime.mu is held.
func (f *function) wanted() bool {
	s := f.latest()
	if s == nil || s.run.Min == s.run.Max {
		return false
	}
	f.mu.Lock()
	f.arrivals.called = true
	f.mu.Unlock()
	s.poke()
	return true
}

// latest is the way in which the function is to be run; Runtime.mu is held.
func (f *function) latest() *set {
	if len(f.sets) == 0 {
		return nil
	}
	return f.sets[len(f.sets)-1]
}

// started notes how long an instance took to be ready.
func (f *function) started(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts.add(took)
}

// lacks notes why there are fewer instances than there should be; fit that there are not.
func (f *function) lacks(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lack = err.Error()
}

func (f *function) fit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lack = ""
}

// starts are how long the latest starts took.
type starts struct {
	took [32]time.Duration
	n    int // that there were
}

func (s *starts) add(took time.Duration) {
	s.took[s.n%len(s.took)] = took
	s.n++
}

// quantile is that of the latest starts; 0: there was none.
func (s *starts) quantile(q float64) time.Duration {
	n := min(s.n, len(s.took))
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.took[:n]))
	return sorted[min(n-1, int(q*float64(n)))]
}

const (
	// A message for a function without instances waits for so many times as long as 19 of 20 of its starts took, and for
	// leastPatience at least, also where its deadline would be earlier: one start may fail, and be tried again.
	patienceStarts = 3.5
	leastPatience  = 10 * time.Second
)

// Patience is how long a message for a function that has no instance is to wait for one at least; 0: the function is not
// begun for a message.
func (r *Runtime) Patience(name string) time.Duration {
	r.mu.Lock()
	f := r.known[name]
	scaled := f != nil && f.latest() != nil && f.latest().run.Min == 0
	r.mu.Unlock()
	if !scaled {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(leastPatience, time.Duration(patienceStarts*float64(f.starts.quantile(0.95))))
}

// FunctionStatus is a function as it is shown.
type FunctionStatus struct {
	Function  string `json:"function"`
	State     State  `json:"state"`     // of the instance that is nearest to serving it
	Instances int    `json:"instances"` // that there are
	Min       int    `json:"min"`
	Max       int    `json:"max"`
	// The next message is expected between these, by Unix time in seconds; both 0: nothing is expected.
	NextFrom float64      `json:"next_from"`
	NextTo   float64      `json:"next_to"`
	Policy   string       `json:"policy"` // by which it is kept or stopped; empty: it always has Min instances
	Reason   string       `json:"reason"` // of the state
	Zygote   ZygoteStatus `json:"zygote"`
}

// Functions are the functions that instances are run for, by name.
func (r *Runtime) Functions() []FunctionStatus {
	r.mu.Lock()
	latest := make([]*set, 0, len(r.known))
	for _, f := range r.known {
		if s := f.latest(); s != nil {
			latest = append(latest, s)
		}
	}
	r.mu.Unlock()
	out := make([]FunctionStatus, 0, len(latest))
	for _, s := range latest {
		out = append(out, s.status())
	}
	slices.SortFunc(out, func(a, b FunctionStatus) int { return cmp.Compare(a.Function, b.Function) })
	return out
}

// nearness orders states by how soon an instance in one serves.
var nearness = []State{Ready, Dozing, Frozen, PagedOut, Starting, Failed, Stopping}

// status is the function as it is shown.
func (s *set) status() FunctionStatus {
	x := FunctionStatus{Function: s.name, State: Stopped, Min: s.run.Min, Max: s.run.Max}
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	s.r.mu.Lock()
	best := len(nearness)
	for _, i := range all {
		if n := slices.Index(nearness, i.status.State); n < best {
			best, x.State, x.Reason = n, i.status.State, i.status.Reason
		}
	}
	s.r.mu.Unlock()
	x.Instances, x.Zygote = len(all), s.nursery.status()
	s.function.mu.Lock()
	defer s.function.mu.Unlock()
	if s.lack != "" {
		x.Reason = s.lack
	}
	if s.run.Min == 0 {
		s.scaler.tell(&x, now())
	}
	return x
}

// Times of the scalers are since the Unix epoch, and never go back.
var (
	epoch = time.Now()
	unix0 = time.Unix(0, 0)
)

func now() time.Duration { return epoch.Sub(unix0) + time.Since(epoch) }

// at is a time of a scaler's, for people.
func at(t time.Duration) string { return unix0.Add(t).Format(time.TimeOnly) }

// tell adds what a scaler expects, and why it does what it does.
func (c *scaler) tell(x *FunctionStatus, now time.Duration) {
	x.Policy = c.policy()
	if from, to, ok := c.expected(); ok && to >= now {
		x.NextFrom, x.NextTo = from.Seconds(), to.Seconds()
	}
	switch {
	case x.Reason == "":
		x.Reason = c.why(x.State, now)
	case x.State == PagedOut: // how much of it is in swap does not say how long that is to be so
		x.Reason += "; " + c.why(x.State, now)
	}
}

// why is the reason of a state that a function is in.
func (c *scaler) why(state State, now time.Duration) string {
	switch {
	case c.failure != "" && state == Stopped:
		return "the last start failed: " + c.failure
	case !c.any:
		return "no message has come yet"
	case c.busy:
		return "it has requests"
	case now < c.evicted && state == Stopped:
		return fmt.Sprintf("last message at %s; it was stopped because others need its memory (runtime.memory)", at(c.last))
	}
	stays, until := c.plan.At(now-c.last, max(0, c.done-c.last), c.start)
	return fmt.Sprintf("last message at %s; %s", at(c.last), c.outlook(stays, until))
}

// outlook says what a plan holds from now on.
func (c *scaler) outlook(stays bool, until time.Duration) string {
	switch {
	case stays && until == predict.Forever:
		return "it stays"
	case stays:
		return "it stays until " + at(c.last+until)
	case until == predict.Forever:
		return "it is started by the next one"
	}
	return "it is started at " + at(c.last+until) + ", or by the next one"
}
