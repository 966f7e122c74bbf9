// Package dataplane serves pods from the kernel: it loads the programs, and holds the parts together that do the rest.
//
// It owns which configuration is installed, and hands the programs' events to the parts that they are about. What else there is belongs to these:
// the maps' memory (mapmem), entries of connections (conntable), pods' connections (slots), messages that wait in the kernel (parking)
// and those that userspace finishes (takeover), routes (routes), counters (counters), the node's network (netview), link addresses
// (neighbours), and which pods are to be in service (reconcile). It may touch the maps that none of these owns.
package dataplane
