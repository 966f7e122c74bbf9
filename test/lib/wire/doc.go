// Package wire is a cable with faults: it carries frames between two
// interfaces through packet sockets, and loses, repeats, delays, reorders,
// corrupts, cuts and joins TCP segments on the way.
//
// What happens to the n-th frame of a direction follows from a seed and n alone.
// A run with the same seed meets the same faults at the same frames; it is not
// the same run, since timing decides which segment the n-th frame carries. A
// test that must see one particular segment suffer gives the wire a plan.
//
// It is a process of its own kind between two real TCP stacks, not a program at
// one of their hooks: only so can it hold a segment back for two seconds, or
// send bytes of two segments in one.
package wire
