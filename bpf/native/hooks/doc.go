// Package hooks compiles the whole of the BPF programs for the host, with a
// machine in place of the kernel: maps, packets and helpers are stubs, and the
// processors are coroutines that can be stopped wherever another one could see
// or change what they work with. Its tests force the interleavings that a real
// machine shows once in a million messages, and check after each one that no
// byte of one client's request is in another's, that nothing is acknowledged
// that was not answered, and that all ledgers agree.
//
// The machine is in machine/, one concept a file. It is built by the tests with
// the host's compiler, together with the sources of the programs or with a copy
// that has a planted mistake, into a shared object. A helper or a map that the
// programs begin to use needs a stub in machine/bpf/bpf_helpers.h and packet.c,
// or a line in memory.c.
//
// Without cgo the package is empty.
//
// The exploration reads this environment variable:
//
//	EPROXY_INTERLEAVE_FACTOR  how many times the usual number of schedules to try (default 1)
package hooks
