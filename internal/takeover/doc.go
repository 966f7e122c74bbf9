// Package takeover finishes messages that the kernel path took and handed to userspace.
//
// It owns those that have no outcome yet. It touches no map: who takes a message over has it copied out of its buffer. A message is
// delivered with the very bytes that the programs made of it, and acknowledged on its device's socket.
package takeover
