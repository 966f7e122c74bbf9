package pinned

import "sort"

var slotStates = []string{"closed", "dialling", "idle", "busy", "answering", "answered", "passing", "taken", "retired"}

func stateName(s uint32) string {
	if int(s) < len(slotStates) {
		return slotStates[s]
	}
	return "unknown"
}

func text(b []byte, n uint32) string { return string(b[:min(int(n), len(b))]) }

func sum(v []uint64) uint64 {
	n := uint64(0)
	for _, x := range v {
		n += x
	}
	return n
}

func sortBy[T any](s []T, key func(T) uint32) {
	sort.Slice(s, func(i, j int) bool { return key(s[i]) < key(s[j]) })
}
