// Package slots keeps the connections to pods that the programs send on.
//
// It owns the entries of pods in service and their connections (slots): when one is dialled, used, found out to be bad, put to sleep and
// closed. It may touch the maps of pods, slots, requests, sockets and of pods that are asleep, and of the
// entries of connections those of slots. Which pods are in service, and in which list of a function's, is not its decision;
// what a slot's message comes to is takeover's, what waits for one is parking's.
package slots
