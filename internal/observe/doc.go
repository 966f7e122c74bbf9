// Package observe counts the HTTP that pods get from anybody, and what they answer,
// by BPF programs in front of the others at the pods' interfaces
// (bpf/observe.bpf.c). Nothing of it is pinned: whatever ends this process
// detaches the programs.
package observe
