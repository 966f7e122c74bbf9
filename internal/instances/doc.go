// Package instances runs functions on this machine: each instance is a process of its own
// user, the first of its PID namespace, in a network namespace with a veth pair and in
// control groups that limit it. It dies with the loader, however that ends: the thread
// that starts the processes never ends, and the kernel kills them with it.
//
// Where instances are is a source of pods like others (internal/endpoints.Local).
package instances
