package predict

import "container/heap"

// Eviction says which of the instances that wait for work to give up when
// memory runs out: greedy-dual by size and frequency (Cherkasova 1998; for
// functions: Fuerst and Sharma, "FaasCache", ASPLOS 2021). An instance is worth
// its function's uses times the cost of a start, by its size; worth fades as
// others are given up.
type Eviction struct {
	clock float64 // worth of the last one that was given up
	byKey map[string]*resident
	queue residents
}

// resident is an instance that may be given up.
type resident struct {
	key   string
	uses  float64
	since float64 // the clock at the last use
	worth float64
	order uint64 // of the last use: among equals the longest unused goes first
	index int
}

// NewEviction makes an empty one.
func NewEviction() *Eviction { return &Eviction{byKey: make(map[string]*resident)} }

// Use tells that the function's instance has been used. cost is that of
// starting it, size its memory; both are positive, in units of the caller's.
func (e *Eviction) Use(key string, cost, size float64) {
	r := e.byKey[key]
	if r == nil {
		r = &resident{key: key}
		e.byKey[key] = r
		heap.Push(&e.queue, r)
	}
	r.uses++
	r.since = e.clock
	e.queue.used++
	r.order = e.queue.used
	e.Weigh(key, cost, size)
}

// Weigh tells what is known by now of the cost and the size of an instance that has been used, in the units of Use.
func (e *Eviction) Weigh(key string, cost, size float64) {
	if r := e.byKey[key]; r != nil {
		r.worth = r.since + r.uses*cost/size
		heap.Fix(&e.queue, r.index)
	}
}

// Victims say which of the instances that wait for work goes when memory runs out: an Eviction, or what it is compared with.
type Victims interface {
	Use(key string, cost, size float64)
	Evict(may func(key string) bool) (key string, ok bool)
	Remove(key string)
}

// Room gives up instances until need of memory is free, of which free is already, and says which. size is how much one gives
// back, may whether it can be given up: who has work cannot. ok is false if all that may go does not suffice.
func Room(v Victims, need, free float64, may func(key string) bool, size func(key string) float64) (given []string, ok bool) {
	for free < need {
		key, some := v.Evict(may)
		if !some {
			return given, false
		}
		given, free = append(given, key), free+size(key)
	}
	return given, true
}

// Knows says whether the function's instance has been used since it was last given up.
func (e *Eviction) Knows(key string) bool { return e.byKey[key] != nil }

// Evict gives up the instance that is worth least, of those that may be.
func (e *Eviction) Evict(may func(key string) bool) (key string, ok bool) {
	var busy []*resident
	for e.queue.Len() > 0 && !ok {
		r := heap.Pop(&e.queue).(*resident)
		if !may(r.key) {
			busy = append(busy, r)
			continue
		}
		key, ok = r.key, true
		e.clock = r.worth
		delete(e.byKey, r.key)
	}
	for _, r := range busy {
		heap.Push(&e.queue, r)
	}
	return key, ok
}

// Remove forgets an instance that has gone by itself.
func (e *Eviction) Remove(key string) {
	if r := e.byKey[key]; r != nil {
		heap.Remove(&e.queue, r.index)
		delete(e.byKey, key)
	}
}

// Len is how many instances may be given up.
func (e *Eviction) Len() int { return e.queue.Len() }

// residents is a heap, least worth first.
type residents struct {
	list []*resident
	used uint64
}

func (q *residents) Len() int { return len(q.list) }
func (q *residents) Less(i, j int) bool {
	a, b := q.list[i], q.list[j]
	return a.worth < b.worth || a.worth == b.worth && a.order < b.order
}
func (q *residents) Swap(i, j int) {
	q.list[i], q.list[j] = q.list[j], q.list[i]
	q.list[i].index, q.list[j].index = i, j
}
func (q *residents) Push(x any) {
	r := x.(*resident)
	r.index = len(q.list)
	q.list = append(q.list, r)
}
func (q *residents) Pop() any {
	r := q.list[len(q.list)-1]
	q.list = q.list[:len(q.list)-1]
	return r
}
