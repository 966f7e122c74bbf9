// Package slots keeps pods in service whose connections the programs send on.
//
// It owns which pods these are and their entries: when one comes, drains, sleeps and goes. It may touch the map pods, but for the words
// that places, scale and trials write, and the maps of pods that are asleep, and of their wake-ups. One connection is slot's, how many there are scale's, how
// much each carries is found out by trials, and places shares them with the fallback. Which pods are in service, and in which list of
// a function's, is not its decision; what waits for a slot is parking's.
package slots
