package depth

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
)

// WhyEnded is what the end of a connection says about a pod that left some of several requests unanswered. stalled
// are the errors with which somebody has stopped waiting.
func WhyEnded(err error, stalled ...error) Why {
	var socket *net.OpError
	var errno syscall.Errno // where it is read past package net
	late := errors.Is(err, os.ErrDeadlineExceeded) || slices.ContainsFunc(stalled, func(s error) bool { return errors.Is(err, s) })
	switch {
	case late:
		return Stalled
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &socket), errors.As(err, &errno):
		return Closed
	}
	return Broken
}
