// Package netns tests the whole system in network namespaces, with real
// clients and real function servers. It needs root and the built binaries
// (make build).
package netns
