// Package spool keeps on disk the messages of one function that found no room in its queue, or whose time was over, while the
// function did not serve: from when they are there they are the spool's, whatever becomes of the program. Those of a client are
// drained in the order in which they came. What it has in memory is bounded by Clients, and by how much is on its way to the disk.
package spool
