package pool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// MaxBody is how much of a response's body is kept, in bytes. Longer ones are
// read to their end up to maxDiscard, else the connection is given up.
const (
	MaxBody    = 1 << 20
	maxDiscard = 16 << 20
)

var errBodyTooLong = errors.New("response longer than 16 MiB")

// postRequest tells http.ReadResponse what the response belongs to.
var postRequest = &http.Request{Method: http.MethodPost}

// ReadResponse reads one response to a POST. Interim responses (1xx) are skipped.
func ReadResponse(br *bufio.Reader) (*Response, error) {
	var res *http.Response
	for {
		var err error
		if res, err = http.ReadResponse(br, postRequest); err != nil {
			return nil, fmt.Errorf("read response: %w", err)
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
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
