// Package netview owns what eproxy has done to this node's network, and follows that:
// the programs on the interfaces that devices arrive on, the XDP program among them, GRO at
// the pods' ends, and how a pod is reached as things are.
//
// It touches interfaces by way of datapath and podgro, and of the settings xdp_idle; it knows
// no pods but by their interfaces. Look and Changed may be called at any time, all else by one
// goroutine at a time.
package netview
