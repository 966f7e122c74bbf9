// Package pool keeps HTTP/1.1 connections to the functions' pods. The
// standalone pool serves the fallback without the kernel path; the data plane
// has one of its own that shares slots with the kernel.
package pool

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"eproxy/internal/lograte"
)

var (
	// ErrNoPod means that there is no such function, and no pod of it.
	ErrNoPod = errors.New("no pod")
	// ErrUnread marks a failure after which the function provably has not read
	// the request, so that even a QoS 0 message may be sent again.
	ErrUnread = errors.New("request not read by the function")
)

// StatusError is a response other than 2xx.
type StatusError struct {
	Status   int
	Location string // of a redirection (3xx): where to, as the function sent it
	// RetryAfter is how long the function wants to be left alone with the message (RFC 9110 section 10.2.3), of 429 and
	// 503; 0: it has not said, or now.
	RetryAfter time.Duration
}

// Response is a function's response.
type Response struct {
	Status    int
	Header    http.Header
	Body      []byte // at most MaxBody bytes
	KeepAlive bool   // the connection may be used again
}

// Lease is a connection borrowed for one exchange.
type Lease interface {
	// Pod is where the connection leads.
	Pod() netip.AddrPort
	// Do sends exactly these bytes and reads the response.
	Do(ctx context.Context, request []byte) (*Response, error)
	// Release gives the connection back; once, after Do or without it.
	Release()
}

// Pool lends connections, within the functions' concurrency limits.
type Pool interface {
	// Acquire waits for a free connection to a pod of the function. Clients have one after another their turn,
	// with what they want first. Pods in avoid are taken only if the others have no place.
	Acquire(ctx context.Context, function, client string, avoid []netip.AddrPort) (Lease, error)
}

// Unreachable logs that no connection to a pod could be made: once, then
// counted. log may be nil.
func Unreachable(log *lograte.Logger, function string, pod netip.AddrPort, err error) {
	log.Warn("no connection to a pod", function+" "+pod.String(), "function", function, "pod", pod, "error", err)
}
