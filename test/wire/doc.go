// Package wire is a cable with faults: it carries frames between two
// interfaces through packet sockets, and loses, repeats, delays, reorders,
// corrupts, cuts and joins TCP segments on the way. All decisions come from a
// seed, one stream of them per direction, so that a run can be repeated.
//
// It is a process of its own kind between two real TCP stacks, not a program at
// one of their hooks: only so can it hold a segment back for two seconds, or
// send bytes of two segments in one.
package wire
