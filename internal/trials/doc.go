// Package trials finds out how many requests the connections of a pod may have in flight, by trying.
//
// It owns what is known of that (a depth.Depth), whether the pod's slots have memory for more than one request, and what the programs
// read of it in the pod's entry: proven, depth, trial, wanted, quota, why, troubles. It may touch these words of the map pods, and the memory of
// slots. When there is reason to try is scale's decision.
package trials
