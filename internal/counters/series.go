package counters

import (
	"slices"
	"time"
)

// Series hands out the indexes of counters, one for each label set. An index
// stays its label set's after a reload without it: who counts under it may come
// back, and what it has counted is not to be forgotten. It is given to another
// label set only when there is no other, by way of Victims and Free. Not safe
// for concurrent use.
type Series[L comparable] struct {
	size    uint32
	index   map[L]uint32
	labels  map[uint32]L
	free    []uint32
	next    uint32               // from here on no index was ever given out
	retired map[uint32]time.Time // no longer in the configuration, since when
	order   []uint32             // retired, oldest first
}

// NewSeries has the indexes below size.
func NewSeries[L comparable](size uint32) *Series[L] {
	return &Series[L]{size: size, index: make(map[L]uint32), labels: make(map[uint32]L), retired: make(map[uint32]time.Time)}
}

// Labels is the label set of an index that is given out.
func (s *Series[L]) Labels(index uint32) (l L, ok bool) {
	l, ok = s.labels[index]
	return l, ok
}

// Index is the index of a label set; fresh says that it was given out now. ok is
// false if there is none left.
func (s *Series[L]) Index(l L) (index uint32, fresh, ok bool) {
	if i, ok := s.index[l]; ok {
		return i, false, true
	}
	switch n := len(s.free); {
	case n > 0:
		index, s.free = s.free[n-1], s.free[:n-1]
	case s.next < s.size:
		index = s.next
		s.next++
	default:
		return 0, false, false
	}
	s.index[l], s.labels[index] = index, l
	return index, true, true
}

// Retain notes which label sets are in the configuration from now on.
func (s *Series[L]) Retain(keep map[L]bool, now time.Time) {
	order := s.order[:0]
	for _, i := range s.order {
		if keep[s.labels[i]] {
			delete(s.retired, i)
		} else {
			order = append(order, i)
		}
	}
	s.order = order
	for l, i := range s.index {
		if _, known := s.retired[i]; !known && !keep[l] {
			s.retired[i] = now
			s.order = append(s.order, i)
		}
	}
}

// Change is Retain where it is known which label sets come, and which go.
func (s *Series[L]) Change(come, gone []L, now time.Time) {
	back := false
	for _, l := range come {
		if i, ok := s.index[l]; ok {
			if _, was := s.retired[i]; was {
				delete(s.retired, i)
				back = true
			}
		}
	}
	if back {
		s.order = slices.DeleteFunc(s.order, func(i uint32) bool { _, still := s.retired[i]; return !still })
	}
	for _, l := range gone {
		if i, ok := s.index[l]; ok {
			if _, was := s.retired[i]; !was {
				s.retired[i] = now
				s.order = append(s.order, i)
			}
		}
	}
}

// Shortage is how many indexes must be freed before all of these label sets can
// have one.
func (s *Series[L]) Shortage(want map[L]bool) int {
	n := -len(s.free) - int(s.size-s.next)
	for l := range want {
		if _, ok := s.index[l]; !ok {
			n++
		}
	}
	return max(n, 0)
}

// Victims are up to n retired indexes, oldest first, with the time since which
// the youngest of them is: not those of label sets that are wanted again, nor
// those that are busy, because something that is in flight may yet count under
// them.
func (s *Series[L]) Victims(n int, want map[L]bool, busy map[uint32]bool) (victims []uint32, since time.Time) {
	for _, i := range s.order {
		if len(victims) == n {
			break
		}
		if !want[s.labels[i]] && !busy[i] {
			victims, since = append(victims, i), s.retired[i]
		}
	}
	return victims, since
}

// Free takes retired indexes from their label sets.
func (s *Series[L]) Free(indexes []uint32) {
	for _, i := range indexes {
		delete(s.index, s.labels[i])
		delete(s.labels, i)
		delete(s.retired, i)
	}
	s.order = slices.DeleteFunc(s.order, func(i uint32) bool { _, still := s.retired[i]; return !still })
	s.free = append(s.free, indexes...)
}
