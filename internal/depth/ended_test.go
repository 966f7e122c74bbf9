package depth

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestWhyEnded: the end of a connection says the same of a pod, whichever way its socket is read.
func TestWhyEnded(t *testing.T) {
	unanswered := errors.New("no response in time")
	for _, c := range []struct {
		err  error
		want Why
	}{
		{io.EOF, Closed},
		{fmt.Errorf("response: %w", io.ErrUnexpectedEOF), Closed},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, Closed},
		{syscall.ECONNRESET, Closed},
		{fmt.Errorf("read: %w", syscall.ETIMEDOUT), Closed},
		{os.ErrDeadlineExceeded, Stalled},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, Stalled},
		{fmt.Errorf("slot: %w", unanswered), Stalled},
		{errors.New("status line without a status"), Broken},
	} {
		if got := WhyEnded(c.err, unanswered); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got.Name(), c.want.Name())
		}
	}
}
