// Package paper holds what `make bench-paper` measures eproxy against: Knative's queue-proxy, as Knative builds
// it, and adaptors between a broker and functions. It is a module of its own, so that what these depend on
// stays out of go.mod.
package paper
