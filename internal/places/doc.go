// Package places shares a pod's places between the programs and the fallback.
//
// It owns what both count of it in the pod's entry: places of the fallback's, those reserved for it, and whose turn it is. It may touch
// these words of the map pods, and read the slots'. How many slots are connected is not its decision, and who waits for a place is the pool's.
package places
