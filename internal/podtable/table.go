package podtable

import (
	"iter"
	"sync"
	"sync/atomic"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
)

// Table has pods P with slots S. All methods may be called at any time; Free to Enter is to be one caller's.
type Table[P, S any] struct {
	shift uint32
	pods  []atomic.Pointer[P] // by index in the pods map; nil: not in service
	slots []atomic.Pointer[S] // by conn index; nil: not in service

	mem []bpf.EproxyPod // set before anything is entered

	mu      sync.Mutex
	leaving map[uint32]<-chan struct{} // indexes that are not to be used again before this is closed
}

// New makes a table for so many pods, without any.
func New[P, S any](pods int) *Table[P, S] {
	shift := bpf.PodShift(uint32(pods))
	return &Table[P, S]{shift: shift, pods: make([]atomic.Pointer[P], pods), slots: make([]atomic.Pointer[S], abi.SlotsPerPod<<shift),
		leaving: make(map[uint32]<-chan struct{})}
}

// Use makes this the memory of the pods' entries. It is called once, before Enter.
func (t *Table[P, S]) Use(mem []bpf.EproxyPod) { t.mem = mem }

// Size is how many pods there may be.
func (t *Table[P, S]) Size() int { return len(t.pods) }

// Memory is a pod's entry in the map.
func (t *Table[P, S]) Memory(index uint32) *bpf.EproxyPod { return &t.mem[index] }

// SlotIndex is the conn index of a pod's n-th slot: the first ones of all pods lie side by side.
func (t *Table[P, S]) SlotIndex(index, n uint32) uint32 { return index + n<<t.shift }

// Free finds an index that no pod has, and no slot of one that had it.
func (t *Table[P, S]) Free() (index uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.pods {
		index = uint32(i)
		if t.pods[i].Load() == nil && !t.held(index) {
			delete(t.leaving, index)
			return index, true
		}
	}
	return 0, false
}

// held says whether somebody may still count under an index that was given up; t.mu is held.
func (t *Table[P, S]) held(index uint32) bool {
	over, ok := t.leaving[index]
	if !ok {
		return false
	}
	select {
	case <-over:
		return false
	default:
		return true
	}
}

// Enter brings a pod into service at a free index, with its slots in their order.
func (t *Table[P, S]) Enter(index uint32, pod *P, slots []*S) {
	for n, s := range slots {
		t.slots[t.SlotIndex(index, uint32(n))].Store(s)
	}
	t.pods[index].Store(pod)
}

// Leave takes the pod of an index out of service. It is nobody's until over is closed.
func (t *Table[P, S]) Leave(index uint32, over <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving[index] = over
	t.pods[index].Store(nil)
	for n := range uint32(abi.SlotsPerPod) {
		t.slots[t.SlotIndex(index, n)].Store(nil)
	}
}

// Pod is the pod of an index; nil: none is in service.
func (t *Table[P, S]) Pod(index uint32) *P { return t.pods[index].Load() }

// Slot is the slot of a conn index; nil: none is in service.
func (t *Table[P, S]) Slot(index uint32) *S { return t.slots[index].Load() }

// Of is the pod whose slot has a conn index; nil: none is in service.
func (t *Table[P, S]) Of(conn uint32) *P {
	if index := conn & (1<<t.shift - 1); index < uint32(len(t.pods)) {
		return t.pods[index].Load()
	}
	return nil
}

// All are the pods in service.
func (t *Table[P, S]) All() iter.Seq[*P] { return all(t.pods) }

// Slots are their slots.
func (t *Table[P, S]) Slots() iter.Seq[*S] { return all(t.slots) }

func all[T any](table []atomic.Pointer[T]) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range table {
			if x := table[i].Load(); x != nil && !yield(x) {
				return
			}
		}
	}
}

// InUse are the indexes of pods in service, and of those whose slots have not ended.
func (t *Table[P, S]) InUse() (indexes []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.pods {
		if t.pods[i].Load() != nil || t.held(uint32(i)) {
			indexes = append(indexes, uint32(i))
		}
	}
	return indexes
}

// Left says whether some index was given up and is not another's yet.
func (t *Table[P, S]) Left() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.leaving) > 0
}

// Await waits until what was given up by now may be used again.
func (t *Table[P, S]) Await() {
	t.mu.Lock()
	var all []<-chan struct{}
	for _, over := range t.leaving {
		all = append(all, over)
	}
	t.mu.Unlock()
	for _, over := range all {
		<-over
	}
}
