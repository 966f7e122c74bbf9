package pool

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

// FuzzPlainResponse: what is read as a plain response, net/http reads as the same response, of the
// same length, on a connection that stays.
func FuzzPlainResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 3\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nok\n",
		"HTTP/1.1 202 \r\ncontent-length:0\r\n\r\nHTTP/1.1 500 no\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: \rY: z\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 2000\r\nContent-Length: 2\r\n\r\nok",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		status, n := plainResponse(b)
		if n == 0 {
			return
		}
		r := bufio.NewReader(bytes.NewReader(b))
		res, err := http.ReadResponse(r, postRequest)
		if err != nil {
			t.Fatalf("net/http: %v", err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != status || res.Close || int64(len(body)) != res.ContentLength {
			t.Fatalf("net/http: %d, close %t, %d bytes, %v; want %d", res.StatusCode, res.Close, len(body), err, status)
		}
		if rest := len(b) - r.Buffered(); len(b) <= 4096 && rest != n {
			t.Fatalf("net/http: %d bytes; want %d", rest, n)
		}
	})
}
