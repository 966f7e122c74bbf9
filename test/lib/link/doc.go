// Package link is an emulated link between two interfaces: it carries every
// frame from one to the other with delay, jitter, loss, reordering, a rate and a
// bounded queue, each direction with its own.
//
// What becomes of a packet is a function of a seed, the direction, the place in
// the TCP stream and the number of times that this place came by (Key), not of how many
// packets came before. So two systems that carry the same streams meet the same
// losses, however they cut, acknowledge and repeat, and can be compared with
// each other. Package wire is for the opposite: faults of every kind that a
// receiver must survive, at frames picked by their number.
//
// The emulator needs packets as they are on a real wire: at most one MTU long and
// with complete checksums. Open switches GRO off at both interfaces; their peers
// must not send GSO packets or partial checksums (lab.NewWired sees to it).
//
// Limits, on two processors of a virtual machine at rest: packets leave less than
// 64 microseconds late in the median and less than half a millisecond for 99 of 100, and a link carries
// some 90,000 packets per second of a bulk transfer whose ends run beside it
// (make bench-links measures both first). Beyond that packets wait in the socket's
// buffer and are late, and where that is full they are lost and counted as Overflow.
// The order of two packets whose times are equal is that of their arrival.
package link
