// Package scale decides how many slots of a pod are connected.
//
// It owns that number, what is known of the pod's server that it follows from (demand), and when idle slots are closed. It may touch the
// words asked, refuses and stall_ms of the map pods, and read what the programs lack; it has slots dialled and closed, and touches no
// connection itself. How many requests a slot has in flight is decided by trials, and whether a pod is in service is its owner's decision.
package scale
