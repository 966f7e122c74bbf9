// Package programs has the BPF programs show what they do with messages (bpf/trace/trace.h). It may touch the maps tracings,
// traced and traces, and the word of the settings that switches this on.
package programs
