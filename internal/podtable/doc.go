// Package podtable says which pod has which entry of the pods map, and which slot which
// connection's.
//
// It owns the numbers: an entry is a pod's from Enter to Leave, and nobody's again until that pod's
// slots have ended and no program can count for it. It touches no map: what entries hold it
// leaves to whoever has them.
package podtable
