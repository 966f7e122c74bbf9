//go:build cgo

package native

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// reference is one response as net/http reads it.
type reference struct {
	status int
	length int // bytes from its first to its last
	keep   bool
}

// post tells net/http what the responses belong to.
var post = &http.Request{Method: http.MethodPost}

// readReference reads the first response of b.
func readReference(b []byte) (r reference, err error) {
	src := bytes.NewReader(b)
	br := bufio.NewReader(src)
	res, err := http.ReadResponse(br, post)
	if err != nil {
		return r, err
	}
	defer res.Body.Close()
	if _, err = io.Copy(io.Discard, res.Body); err != nil {
		return r, err
	}
	if res.ContentLength < 0 && len(res.TransferEncoding) == 0 && res.StatusCode != http.StatusNoContent {
		return r, errors.New("ends with its connection")
	}
	return reference{res.StatusCode, len(b) - src.Len() - br.Buffered(), !res.Close}, nil
}

// maxPadding bounds the bodies that the comparison makes up, in bytes.
const maxPadding = 1 << 20

// compareResponses runs both parsers over one segment. Whatever the kernel's
// calls a whole response, net/http must read as exactly one, of the same length
// and persistence, and as a success.
func compareResponses(table *Table, b []byte) error {
	a, h := table.Responses(b)
	at := 0
	for n := range int(a.completed) {
		r, err := readReference(b[at:])
		if err != nil {
			return fmt.Errorf("response %d, at byte %d: %w", n, at, err)
		}
		last := n == int(a.completed)-1
		if r.status/100 != 2 || last && r.keep == (a.closing != 0) || !last && !r.keep {
			return fmt.Errorf("response %d, at byte %d: reference %+v, but the connection closes: %v", n, at, r, a.closing != 0)
		}
		at += r.length
	}
	if a.left == 0 {
		if at != int(a.off) {
			return fmt.Errorf("%d responses end at byte %d, the reference says %d", a.completed, a.off, at)
		}
		return nil
	}
	if int(a.off) != len(b) {
		return fmt.Errorf("%d bytes are awaited, but the segment goes on behind byte %d", a.left, a.off)
	}
	if a.left > maxPadding {
		return nil
	}
	r, err := readReference(append(slices.Clone(b[at:]), make([]byte, a.left)...))
	if err != nil || r.status != int(h.status) || r.keep == (a.close != 0) || at+r.length != len(b)+int(a.left) {
		return fmt.Errorf("response at byte %d, %d bytes to come, closes: %v; reference %+v, %w", at, a.left, a.close != 0, r, err)
	}
	return nil
}

const (
	chunkedHead = "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n"
	plainHead   = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
)

// httpCases are responses with what the kernel path makes of them: how many are
// whole, whether the connection closes then, how many bytes are left over.
var httpCases = []struct {
	name      string
	in        string
	completed int
	closing   bool
	left      int // bytes behind the last whole response, or of it that are to come
}{
	{"length", plainHead + "\r\nok\n", 1, false, 0},
	{"two", plainHead + "\r\nok\n" + plainHead + "\r\nok\n", 2, false, 0},
	{"begun", plainHead + "\r\no", 0, false, 2},
	{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 1, false, 0},
	{"no content, with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 1, false, 0},
	{"no content, chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, false, 5 + 55},
	{"no reason phrase", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 1, false, 0},
	{"no reason phrase nor blank", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 1, false, 0},
	{"reason phrase of obs-text", "HTTP/1.1 200 \xe9t\xe9\r\nContent-Length: 0\r\n\r\n", 1, false, 0},
	{"status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", 0, false, 39},
	{"not a success", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0, false, 45},
	{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 0, false, 38},
	{"no length", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", 0, false, 25},

	{"chunked", chunkedHead + "2\r\nok\r\n0\r\n\r\n", 1, false, 0},
	{"chunked, empty", chunkedHead + "0\r\n\r\n", 1, false, 0},
	{"chunked, several chunks", chunkedHead + "2\r\nok\r\n00A\r\n0123456789\r\n1a\r\n" + strings.Repeat("x", 26) + "\r\n000000\r\n\r\n", 1, false, 0},
	{"chunked, data that looks like the end", chunkedHead + "20\r\n" + strings.Repeat("x", 20) + "\r\n0\r\n\r\n" + "-----\r\n0\r\n\r\n", 1, false, 0},
	{"chunked, body longer than what is looked at", chunkedHead + "1000\r\n" + strings.Repeat("x", 4096) + "\r\n0\r\n\r\n", 1, false, 0},
	{"chunked, several", strings.Repeat(chunkedHead+"2\r\nok\r\n0\r\n\r\n", 3) + plainHead + "\r\nok\n", 4, false, 0},
	{"chunked, in capitals", "HTTP/1.1 200 OK\r\nTRANSFER-ENCODING:Chunked\r\n\r\n0\r\n\r\n", 1, false, 0},
	{"chunked, closing", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", 1, true, 0},
	{"chunked, last chunk to come", chunkedHead + "2\r\nok\r\n", 0, false, len(chunkedHead) + 7},
	{"chunked, half of the last chunk", chunkedHead + "2\r\nok\r\n0\r\n\r", 0, false, len(chunkedHead) + 11},
	{"chunked, data to come", chunkedHead + "3\r\nok", 0, false, len(chunkedHead) + 5},
	{"chunked, only the head", chunkedHead, 0, false, len(chunkedHead)},
	{"chunked, behind another", plainHead + "\r\nok\n" + chunkedHead + "2\r\nok\r\n", 1, false, len(chunkedHead) + 7},
	{"chunked, extension", chunkedHead + "2;a=b\r\nok\r\n0\r\n\r\n", 0, false, len(chunkedHead) + 16},
	{"chunked, trailer section", chunkedHead + "2\r\nok\r\n0\r\nX: y\r\n\r\n", 0, false, len(chunkedHead) + 18},
	{"chunked, trailer section announced", "HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, false, 64},
	{"chunked, seven digits", chunkedHead + "0000002\r\nok\r\n0\r\n\r\n", 0, false, len(chunkedHead) + 18},
	{"chunked, no digit", chunkedHead + "\r\nok\r\n0\r\n\r\n", 0, false, len(chunkedHead) + 11},
	{"chunked, no CRLF behind the data", chunkedHead + "1\r\nok\r\n0\r\n\r\n", 0, false, len(chunkedHead) + 12},
	{"chunked, bare LF", chunkedHead + "2\nok\r\n0\r\n\r\n", 0, false, len(chunkedHead) + 11},
	{"chunked and a length", plainHead + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 0, false, 79},
	{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, false, 80},
	{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, false, 58},
	{"coding that begins with chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", 0, false, 53},
	{"field that begins with Transfer-", plainHead + "Transfer-Id: 7\r\n\r\nok\n", 1, false, 0},

	{"close", plainHead + "Connection: close\r\n\r\nok\n", 1, true, 0},
	{"close in capitals", plainHead + "CONNECTION:CLOSE\r\n\r\nok\n", 1, true, 0},
	{"keep-alive", plainHead + "Connection: Keep-Alive\r\n\r\nok\n", 1, false, 0},
	{"upgrade and keep-alive", plainHead + "Connection: Upgrade, Keep-Alive\r\n\r\nok\n", 1, false, 0},
	{"upgrade", plainHead + "Connection: Upgrade\r\n\r\nok\n", 1, false, 0},
	{"upgrade and close", plainHead + "Connection: Upgrade, close\r\n\r\nok\n", 1, true, 0},
	{"close among others", plainHead + "Connection: a ,\tClOsE\t , b\r\n\r\nok\n", 1, true, 0},
	{"close among empty elements", plainHead + "Connection: ,, ,close,\r\n\r\nok\n", 1, true, 0},
	{"close in the second field", plainHead + "Connection: keep-alive\r\nConnection: close\r\n\r\nok\n", 1, true, 0},
	{"close in the first field", plainHead + "Connection: close\r\nConnection: keep-alive\r\n\r\nok\n", 1, true, 0},
	{"empty list", plainHead + "Connection:\r\n\r\nok\n", 1, false, 0},
	{"option that begins with close", plainHead + "Connection: closed, close-not\r\n\r\nok\n", 1, false, 0},
	{"option that ends with close", plainHead + "Connection: disclose\r\n\r\nok\n", 1, false, 0},
	{"close in two words", plainHead + "Connection: clo se, close x\r\n\r\nok\n", 1, false, 0},
	{"field that begins with Connecti", plainHead + "Connectivity: close\r\n\r\nok\n", 1, false, 0},
	{"bytes behind the last response", plainHead + "Connection: close\r\n\r\nok\n" + plainHead, 1, true, len(plainHead)},

	{"two lengths", plainHead + "Content-Length: 3\r\n\r\nok\n", 0, false, 60},
	{"list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nok\n", 0, false, 44},
	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nok\n", 0, false, 42},
	{"length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nok\n", 0, false, 42},
	{"no digits", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok\n", 0, false, 40},
	{"blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nok\n", 0, false, 42},
	{"blank before the colon of another field", plainHead + "X : y\r\n\r\nok\n", 0, false, len(plainHead) + 12},
	{"obs-fold", plainHead + "X: y\r\n z\r\n\r\nok\n", 0, false, len(plainHead) + 15},
	{"obs-fold of a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n 0\r\n\r\nok\n", 0, false, 45},
	{"obs-fold with HTAB", plainHead + "\tz\r\n\r\nok\n", 0, false, len(plainHead) + 9},
	{"no colon", plainHead + "X\r\n\r\nok\n", 0, false, len(plainHead) + 8},
	{"no name", plainHead + ": x\r\n\r\nok\n", 0, false, len(plainHead) + 10},
	{"bare LF", "HTTP/1.1 200 OK\r\nContent-Length: 3\n\r\nok\n", 0, false, 40},
	{"bare LF ends the head", plainHead + "\nX: y\r\n\r\n", 0, false, len(plainHead) + 9},
	{"bare CR in a line", plainHead + "X: a\rb\r\n\r\nok\n", 0, false, len(plainHead) + 13},
	{"bare CR before a line", plainHead + "\rX: a\r\n\r\nok\n", 0, false, len(plainHead) + 12},
	{"NUL", plainHead + "X: a\x00b\r\n\r\nok\n", 0, false, len(plainHead) + 13},
	{"DEL", plainHead + "X: a\x7fb\r\n\r\nok\n", 0, false, len(plainHead) + 13},
	{"HTAB", plainHead + "X:\ta\tb\r\n\r\nok\n", 1, false, 0},
	{"control character in place of the dash", "HTTP/1.1 200 OK\r\nContent\rLength: 3\r\n\r\nok\n", 0, false, 41},
	{"head as long as can be looked at", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1024-20-2-21) + "\r\nContent-Length: 3\r\n\r\nok\n", 1, false, 0},
	{"head too long", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1024-20-2-20) + "\r\nContent-Length: 3\r\n\r\nok\n", 0, false, 1028},
}

// TestDigestedResponses: what the kernel path reads of each kind of response, and that
// net/http agrees.
func TestDigestedResponses(t *testing.T) {
	for _, c := range httpCases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := Own().Responses([]byte(c.in))
			left := len(c.in) - int(a.off) + int(a.left)
			if int(a.completed) != c.completed || a.completed > 0 && (a.closing != 0) != c.closing || left != c.left {
				t.Errorf("%d whole, closing %v, %d bytes left, want %d, %v, %d", a.completed, a.closing != 0, left, c.completed, c.closing, c.left)
			}
			if err := compareResponses(Own(), []byte(c.in)); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzResponses compares the kernel path's reading of responses with net/http's.
func FuzzResponses(f *testing.F) {
	for _, c := range httpCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := compareResponses(Own(), b); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

// httpPieces are what responses are made of, good and bad.
var httpPieces = []string{"HTTP/1.1 200 OK\r\n", "HTTP/1.1 204\r\n", "HTTP/1.1 200 \r\n", "Content-Length: 3\r\n", "Content-Length:0\r\n", "content-length: 3, 3\r\n",
	"Content-Length : 3\r\n", "Content-Length: 3 \r\n", "Transfer-Encoding: chunked\r\n", "transfer-encoding:CHUNKED\r\n", "Transfer-Encoding: gzip\r\n", "Connection: close\r\n",
	"Connection: Upgrade, Keep-Alive\r\n", "Connection: ,close ,\t\r\n", "Connection: keep-alive\r\n", "X: y\r\n", " folded\r\n", "Trailer: X\r\n",
	"\r\n", "\r\n", "\r\n", "ok\n", "0\r\n\r\n", "2\r\nok\r\n", "000a\r\n0123456789\r\n", "2;x\r\nok\r\n", "\n", "\r", ":", " ", "\t", "\x00"}

// mutations calls try with responses put together of pieces, some of them damaged.
func mutations(n int, try func(b []byte) error) error {
	r := rand.New(rand.NewPCG(3, 5))
	for range n {
		var b []byte
		if r.IntN(3) == 0 {
			b = []byte(httpCases[r.IntN(len(httpCases))].in)
		} else {
			b = append(b, httpPieces[r.IntN(3)]...)
			for range 1 + r.IntN(8) {
				b = append(b, httpPieces[r.IntN(len(httpPieces))]...)
			}
		}
		for range r.IntN(3) {
			i := r.IntN(len(b))
			switch r.IntN(4) {
			case 0:
				b[i] = byte(r.IntN(256))
			case 1:
				b = append(b[:i:i], b[i+1:]...)
			case 2:
				b = append(b[:i:i], append([]byte(httpPieces[r.IntN(len(httpPieces))]), b[i:]...)...)
			case 3:
				b = b[:i+1]
			}
		}
		if err := try(b); err != nil {
			return fmt.Errorf("%q: %w", b, err)
		}
	}
	return nil
}

// TestDamagedResponsesAgainstNetHTTP does what FuzzResponses does over random damage.
func TestDamagedResponsesAgainstNetHTTP(t *testing.T) {
	whole := 0
	err := mutations(200000, func(b []byte) error {
		a, _ := Own().Responses(b)
		whole += int(a.completed)
		return compareResponses(Own(), b)
	})
	if err != nil {
		t.Fatal(err)
	}
	if whole < 10000 {
		t.Errorf("only %d whole responses among them", whole)
	}
}

// plantedHTTP are mistakes that the comparison with net/http must find.
var plantedHTTP = []struct{ name, old, new string }{
	{"status of more digits", "(buf[12] != ' ' && buf[12] != '\\r')", "0"},
	{"CR without LF ends the head", "\t\t\tif (http_crlf(buf, off))\n\t\t\t\th->head_len", "\t\t\th->head_len"},
	{"control characters in a value", "return ((x - ONES * ' ') | ((x ^ ONES * 0x7f) - ONES)) & ~x & HIGH;", "return ((x ^ ONES * '\\r') - ONES) & ~(x ^ ONES * '\\r') & HIGH;"},
	{"blank in a name", "u64 other = ~((letter", "u64 other = ~((((x7 ^ ONES * ' ') - ONES) | letter"},
	{"no name", " || (n == 1 && h->at == HTTP_LINE))", ")"},
	{"close only in capitals or not", "(b | 0x20) == (__u8)", "b == (__u8)"},
	{"options of the first field only", "\t\thttp_options(buf, off + 11, h);", "\t\tif (h->pad[0]++)\n\t\t\treturn FIELD_OTHER;\n\t\thttp_options(buf, off + 11, h);"},
	{"close as a prefix", "} else {\n\t\t__u64 letters", "} else if (token != TOKEN_CLOSE) {\n\t\t__u64 letters"},
	{"close within an element", "\tif (token)\n\t\t\th->token = token == TOKEN_CLOSE || token == TOKEN_ENDED ? TOKEN_ENDED : TOKEN_OTHER;", "\th->token = token == TOKEN_CLOSE ? TOKEN_ENDED : 0;"},
	{"two codings", "if (h->chunked || !http_coding", "if (!http_coding"},
	{"coding with more behind it", "return http_line_end(buf, off + 7, h);", "h->off = off + 7;\n\th->at = HTTP_VALUE;\n\treturn true;"},
	{"chunk without CRLF before it", "\tif (!http_crlf(buf, 0))\n\t\treturn 0;\n", ""},
	{"chunk size without CRLF", "!within(n, 3, 8) || !http_crlf(buf, n))", "!within(n, 3, 8))"},
	{"trailer section", "if (*last && !http_crlf(buf, n + 2))", "if (0)"},
	{"body that goes on behind the segment", "return n <= left ? n : 0;", "return n;"},
	{"hexadecimal as decimal", "size << 4 |", "size * 10 +"},
}

// TestPlantedHTTPMistakesAreFound shows that the comparison finds mistakes.
func TestPlantedHTTPMistakesAreFound(t *testing.T) {
	for _, p := range plantedHTTP {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), "http.h", p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			if err = mutations(200000, func(b []byte) error { return compareResponses(table, b) }); err == nil {
				t.Fatal("not found")
			}
			t.Logf("%.200v", err)
		})
	}
}
