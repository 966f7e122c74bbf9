// Package reason names the counters of the BPF programs.
package reason

// Reason is one counter.
type Reason struct {
	Name string
	Text string // one line
}
