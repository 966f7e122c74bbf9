// Package counters reads what the programs count by route and by pod, and names it.
//
// It owns which label set has which index of the counters, for as long as anybody counts under it, also over a reload,
// and what was counted under those that are gone. It may touch the maps of counters and of their labels, and writes
// only the labels, and counters that nobody counts under.
package counters
