// Package dataplane serves pods from the kernel: it keeps the connections to them
// (slots), and finishes what the programs hand over.
//
// It owns the pods' entries with their slots, and the messages that wait in the kernel.
// What else there is belongs to parts that it holds together: entries of connections
// (conntable), which entry is whose (podtable), routes (routes), counters (counters), the node's network (netview), and
// which pods are to be in service (reconcile). It may touch the maps that none of these
// owns.
package dataplane
