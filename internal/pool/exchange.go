package pool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/rawio"
	"eproxy/internal/readbuf"
)

// MaxBody is how much of a response's body is kept, in bytes. Longer ones are
// read to their end up to maxDiscard, else the connection is given up.
const (
	MaxBody    = 1 << 20
	maxDiscard = 16 << 20
)

// What may come before a response's body: interim responses (1xx), and bytes of
// their heads and its own together. Chunk lines and trailer sections are bounded
// by net/http, to the size of the Reader's buffer.
const (
	maxInterim = 16
	maxHead    = 64 << 10
)

var (
	errBodyTooLong = errors.New("response longer than 16 MiB")
	errHeadTooLong = errors.New("response head longer than 64 KiB")
	errInterim     = fmt.Errorf("more than %d interim responses (1xx)", maxInterim)
	// ErrEarly marks a success that the pod sent before its TCP had acknowledged
	// the whole request: it answers something else.
	ErrEarly = errors.New("response came before the request was received")
)

// postRequest tells http.ReadResponse what the response belongs to.
var postRequest = &http.Request{Method: http.MethodPost}

// Reader reads responses from one connection. A pod can make it hold no more
// than maxHead bytes of heads and MaxBody bytes of a body.
type Reader struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	br   *bufio.Reader
	read uint64 // bytes from the connection
	left int    // bytes that may still be read of heads; -1: no limit
}

// NewReader makes the reader of a connection.
func NewReader(conn *net.TCPConn) *Reader {
	r := &Reader{conn: conn, left: -1}
	r.raw, _ = conn.SyscallConn() // nil only if closed, which Read will say
	r.br = bufio.NewReader((*bounded)(r))
	return r
}

// bounded is the connection below a Reader's buffer.
type bounded Reader

// Read reads up to what the limit allows.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errHeadTooLong
	}
	if b.left > 0 && len(p) > b.left {
		p = p[:b.left]
	}
	n, err := readbuf.Read(b.raw, func() []byte { return p }, func() {})
	b.read += uint64(n)
	if b.left > 0 {
		b.left -= n
	}
	return n, err
}

// Wait returns when there is something to read, or when there will be nothing.
func (r *Reader) Wait() error {
	_, err := r.br.Peek(1)
	return err
}

// Buffered is how many bytes were read from the connection, but not asked for yet.
func (r *Reader) Buffered() int { return r.br.Buffered() }

// Position is how many bytes lie before the one that is read next.
func (r *Reader) Position() uint64 { return r.read - uint64(r.br.Buffered()) }

// Response reads one response to a POST. Interim responses are skipped. It is
// ErrEarly for a success that comes while the pod's TCP has not acknowledged all
// that was sent: a pod acknowledges all that it has received with every segment.
// For the same reason it is ErrUnread for a FIN that comes then.
func (r *Reader) Response() (*Response, error) {
	if err := r.Wait(); err != nil {
		err = fmt.Errorf("read response: %w", err)
		if n, known := unsentTo(r.conn); errors.Is(err, io.EOF) && known && n > 0 { // it takes no more
			err = fmt.Errorf("%w: %w", ErrUnread, err)
		}
		return nil, err
	}
	n, known := unsentTo(r.conn)
	early := !known || n > 0
	res, err := r.respond()
	if err == nil && early && res.Status/100 == 2 {
		return nil, ErrEarly
	}
	return res, err
}

// respond reads one response, with header and body.
func (r *Reader) respond() (*Response, error) {
	res, err := r.head()
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, MaxBody))
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxDiscard))
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	if n == maxDiscard {
		return nil, errBodyTooLong
	}
	keep := !res.Close && res.ProtoAtLeast(1, 1) && res.StatusCode != http.StatusSwitchingProtocols
	return &Response{Status: res.StatusCode, Header: res.Header, Body: body, KeepAlive: keep}, nil
}

// head reads up to the body of the first response that is not an interim one.
func (r *Reader) head() (*http.Response, error) {
	r.left = max(0, maxHead-r.br.Buffered())
	defer func() { r.left = -1 }()
	for range maxInterim + 1 {
		res, err := http.ReadResponse(r.br, postRequest)
		if err != nil && r.left == 0 {
			return nil, errHeadTooLong // whatever net/http makes of a line that is cut
		}
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
	}
	return nil, errInterim
}

// unsentTo is unsent of a connection.
func unsentTo(c *net.TCPConn) (n int, known bool) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	return unsent(rc)
}

// unsent is how many bytes of what was written to a connection the peer has not
// acknowledged (SIOCOUTQ, tcp(7)); not known of a connection that was closed.
func unsent(rc syscall.RawConn) (n int, known bool) {
	return rawio.Int(rc, unix.TIOCOUTQ)
}

// maxLocation is how many bytes of a Location field an error shows.
const maxLocation = 256

// NewStatusError is the error that a response other than 2xx means.
func NewStatusError(r *Response) *StatusError {
	e := &StatusError{Status: r.Status}
	if r.Status/100 == 3 {
		e.Location = r.Header.Get("Location")
	}
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		e.RetryAfter = retryAfter(r.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// retryAfter reads a Retry-After header: seconds, or a date. What is neither counts as none.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(n, uint64(math.MaxInt64/time.Second))) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}

// Error names the status, and for a redirection where to: functions are called
// at the URL that is configured, and no other.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("function answered %d", e.Status)
	if e.Location == "" {
		return s
	}
	at := e.Location
	if len(at) > maxLocation {
		at = at[:maxLocation] + "..."
	}
	quoted := strconv.QuoteToASCII(at)
	return s + ", Location: " + quoted[1:len(quoted)-1] + " (redirections are not followed)"
}
