// Package datapath owns what eproxy has in the kernel as a whole: the lock that
// makes one loader its master, the BPF programs and maps, their pins, and the links
// by which programs are attached to interfaces. It loads, pins, attaches and
// removes them, touches interfaces by nothing but these links, and knows nothing of what the maps hold.
package datapath
