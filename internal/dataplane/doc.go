// Package dataplane owns the kernel side of eproxy: it loads, pins and attaches
// the BPF programs, installs routes, keeps the connections to the pods (slots),
// arms the connections of devices, and finishes what the programs hand over.
package dataplane
