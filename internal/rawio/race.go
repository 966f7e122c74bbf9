//go:build race

package rawio

import "syscall"

// The race detector knows of what one goroutine writes to a socket and another one reads from it through these alone.

func read(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Read(int(fd), p)
	return max(n, 0), err
}

func write(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Write(int(fd), p)
	return max(n, 0), err
}
