package pool

import "bytes"

// plainSuccess are the responses that plain returns, by status code from 200 on: whoever gets
// one looks at its status only.
var plainSuccess = func() (all [100]Response) {
	for i := range all {
		all[i] = Response{Status: 200 + i, KeepAlive: true}
	}
	return all
}()

// plain reads the response that was read from the connection already if it is whole and of the plain
// kind: HTTP/1.1, 2xx, with Content-Length, and nothing about the connection. Others are left
// for respond, and nil is returned. It has neither header nor body.
func (r *Reader) plain() *Response {
	b, _ := r.br.Peek(r.br.Buffered())
	status, n := plainResponse(b)
	if n == 0 {
		return nil
	}
	_, _ = r.br.Discard(n)
	return &plainSuccess[status-200]
}

var (
	plainVersion = []byte("HTTP/1.1 2")
	crlf         = []byte("\r\n")
)

// plainResponse is the status and the length of the plain response at the beginning of b; 0 if there
// is another one, or only a part.
func plainResponse(b []byte) (status, length int) {
	if len(b) < len("HTTP/1.1 200 ") || !bytes.HasPrefix(b, plainVersion) || !digit(b[10]) || !digit(b[11]) || b[12] != ' ' {
		return 0, 0
	}
	status = 200 + int(b[10]-'0')*10 + int(b[11]-'0')
	if status == 204 || status == 205 { // no body, whatever the fields say
		return 0, 0
	}
	at, body := 0, -1
	for first := true; ; first = false {
		n := bytes.Index(b[at:], crlf)
		if n < 0 {
			return 0, 0
		}
		line := b[at : at+n]
		at += n + len(crlf)
		switch {
		case n == 0:
			if body < 0 || len(b)-at < body {
				return 0, 0
			}
			return status, at + body
		case first:
			if !printable(line) {
				return 0, 0
			}
		default:
			length, ok := plainField(line)
			if !ok || length >= 0 && body >= 0 {
				return 0, 0
			}
			body = max(body, length)
		}
	}
}

// plainField reads a field line: length is that of Content-Length, else -1. ok is false for a line that
// is not plain.
func plainField(line []byte) (length int, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !token(line[:colon]) || !printable(line[colon:]) {
		return -1, false
	}
	name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
	switch len(name) {
	case len("Connection"):
		return -1, !bytes.EqualFold(name, []byte("Connection"))
	case len("Transfer-Encoding"):
		return -1, !bytes.EqualFold(name, []byte("Transfer-Encoding"))
	case len("Content-Length"):
		if bytes.EqualFold(name, []byte("Content-Length")) {
			return decimal(value)
		}
	}
	return -1, true
}

// decimal reads a length of at most six digits.
func decimal(b []byte) (n int, ok bool) {
	for _, c := range b {
		if !digit(c) {
			return -1, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0 && len(b) <= 6
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// printable says whether a line has no control characters, bare CR and LF among them.
func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// token says whether a field name is one of letters, digits and hyphens.
func token(b []byte) bool {
	for _, c := range b {
		if !digit(c) && !(c|0x20 >= 'a' && c|0x20 <= 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
