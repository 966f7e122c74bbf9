// Package rawio makes system calls on sockets that do not block, without telling Go's scheduler of them. What the standard library
// does around each call wakes a thread of the runtime's (sysmon) whenever the process was idle, which then sleeps for 20 µs at a time until it is idle again: for
// a message by itself that costs more than the calls. A call that cannot wait needs nobody to look after it: the longest of them,
// write(2), takes a few dozen microseconds, for which the processor's place in the scheduler is kept.
package rawio
