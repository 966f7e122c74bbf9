// Package upstream follows the life of each pod: which pods are wanted, what probes
// and requests say of them, and so which of them get messages. It owns that
// state and nothing else: it touches nothing in the kernel, makes no connection but its probes, and its users
// bring the pods that it says into service. The rules are a machine without clock
// or goroutines (Machine), which tests step through; Life drives one with
// probes and timers.
package upstream
