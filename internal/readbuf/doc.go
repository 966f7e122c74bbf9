// Package readbuf reads from sockets into memory that connections have only while there is something to read: thousands that wait
// have none. It owns the buffers that are lent, and knows nothing of what is in them.
package readbuf
