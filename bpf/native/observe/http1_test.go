//go:build cgo

package observe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// ends are where net/http says that the messages of a stream end, until the first
// that it does not read as a whole; whole says that there is none such.
func ends(b []byte, response bool) (at []int, whole bool) {
	src := bytes.NewReader(b)
	br := bufio.NewReader(src)
	for {
		if _, err := br.Peek(1); err != nil {
			return at, true
		}
		var body io.ReadCloser
		if response {
			res, err := http.ReadResponse(br, &http.Request{Method: http.MethodPost})
			if err != nil {
				return at, false
			}
			defer res.Body.Close()
			if res.StatusCode == http.StatusSwitchingProtocols {
				return at, false
			}
			if res.ContentLength < 0 && len(res.TransferEncoding) == 0 && res.StatusCode >= 200 && res.StatusCode != 204 && res.StatusCode != 304 {
				return at, false // ends with the connection
			}
			body = res.Body
			if res.StatusCode < 200 {
				continue // the final one follows
			}
		} else {
			req, err := http.ReadRequest(br)
			if err != nil {
				return at, false
			}
			if req.Method == http.MethodConnect {
				return at, false
			}
			body = req.Body
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return at, false
		}
		at = append(at, len(b)-src.Len()-br.Buffered())
	}
}

// scan are where the programs say that the messages of a stream end that comes in pieces.
func scan(t *Table, r *rand.Rand, b []byte, response bool) (at []int, last int) {
	s := t.NewStream(response, 0)
	for off := 0; off < len(b); {
		n := min(len(b)-off, 1+r.IntN(1+r.IntN(600)))
		f := s.Feed(b[off : off+n])
		for _, e := range f.Ends {
			at = append(at, off+e)
		}
		if f.Last != 0 {
			return at, f.Last
		}
		off += n
	}
	return at, 0
}

var (
	firstLines = map[bool][]string{
		false: {"GET / HTTP/1.1\r\n", "POST /ingest HTTP/1.1\r\n", "HEAD /" + strings.Repeat("x", 200) + " HTTP/1.1\r\n", "PUT /a HTTP/1.0\r\n",
			"DELETE /a%20b?c=d HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n", "PROPFIND / HTTP/1.1\r\n"},
		true: {"HTTP/1.1 200 OK\r\n", "HTTP/1.1 204 No Content\r\n", "HTTP/1.1 304 Not Modified\r\n", "HTTP/1.1 500 \r\n", "HTTP/1.0 404 Not Found\r\n",
			"HTTP/1.1 302\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Created\r\n"},
	}
	fields = []string{"Host: a\r\n", "X: y\r\n", "Connection: keep-alive\r\n", "Content-Type: text/plain\r\n", "Transfer-Id: 7\r\n", "Content-Lengthy: 9\r\n",
		"Cookie: " + strings.Repeat("abc=def; ", 60) + "\r\n", "Empty:\r\n", "Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n", "A: b\r\n  folded\r\n",
		"X-Thirty-Two-Bytes-With-Its-CR:\r\n", "X-Thirty-One-Bytes-And-Its-C:x\r\n"}
	lengths = []string{"Content-Length: %d\r\n", "content-length:%d\r\n", "CONTENT-LENGTH:   %d \r\n", "Content-Length: 00%d\r\n"}
	codings = []string{"Transfer-Encoding: chunked\r\n", "transfer-encoding:chunked\r\n", "TRANSFER-ENCODING: Chunked \r\n"}
)

// message is a random message that both read.
func message(r *rand.Rand, response bool) string {
	var b strings.Builder
	b.WriteString(firstLines[response][r.IntN(len(firstLines[response]))])
	empty := strings.Contains(b.String(), " 204 ") || strings.Contains(b.String(), " 304 ")
	old := strings.Contains(b.String(), "/1.0")
	some := func() {
		for range r.IntN(4) {
			b.WriteString(fields[r.IntN(len(fields))])
		}
	}
	b.WriteString("Host: x\r\n")
	some()
	n := []int{0, 1, 5, 31, 32, 33, 700, 5000}[r.IntN(8)]
	switch {
	case empty:
		some()
		return b.String() + "\r\n"
	case !old && r.IntN(2) == 0:
		b.WriteString(codings[r.IntN(len(codings))])
		some()
		b.WriteString("\r\n")
		for range r.IntN(4) {
			m := 1 + r.IntN(n+1)
			fmt.Fprintf(&b, []string{"%x\r\n", "%X\r\n", "000%x\r\n", "%x;a=b\r\n"}[r.IntN(4)], m)
			b.WriteString(strings.Repeat("\r\n0", m)[:m] + "\r\n")
		}
		b.WriteString("0\r\n")
		if r.IntN(3) == 0 {
			b.WriteString("Checksum: 1234567890\r\n")
		}
		return b.String() + "\r\n"
	case !response && r.IntN(3) == 0: // none
		some()
		return b.String() + "\r\n"
	}
	fmt.Fprintf(&b, lengths[r.IntN(len(lengths))], n)
	some()
	b.WriteString("\r\n")
	return b.String() + strings.Repeat("HTTP/1.1 200 OK\r\n\r\n", n)[:n]
}

// compare runs both over a stream. What net/http reads the programs must read alike, or not at
// all; strict: alike.
func compare(t *Table, r *rand.Rand, b []byte, response, strict bool) error {
	want, whole := ends(b, response)
	got, last := scan(t, r, b, response)
	if len(got) > len(want) && !whole { // beyond what net/http refuses, which a server answers 400
		got = got[:len(want)]
	}
	if len(got) < len(want) && last != 0 && !strict {
		want = want[:len(got)]
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("messages end at %v (event %d), net/http says %v", got, last, want)
	}
	return nil
}

// streams are random streams of valid messages, damaged or not.
func streams(n int, damaged bool, try func(r *rand.Rand, b []byte, response bool) error) error {
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		response := r.IntN(2) == 0
		var b []byte
		for range 1 + r.IntN(4) {
			b = append(b, message(r, response)...)
		}
		if damaged {
			for range 1 + r.IntN(3) {
				i := r.IntN(len(b))
				switch r.IntN(4) {
				case 0:
					b[i] = byte(r.IntN(256))
				case 1:
					b = slices.Delete(b, i, min(len(b), i+1+r.IntN(4)))
				case 2:
					b = slices.Insert(b, i, []byte([]string{"\r\n", "\n", " ", "0\r\n", ":", "Content-Length: 3\r\n", "Transfer-Encoding: gzip\r\n", "\t"}[r.IntN(8)])...)
				case 3:
					b = b[:i+1]
				}
				if len(b) == 0 {
					b = []byte("x")
				}
			}
		}
		if err := try(r, b, response); err != nil {
			return fmt.Errorf("%.2000q: %w", b, err)
		}
	}
	return nil
}

// TestStreamsAgainstNetHTTP: all messages of valid streams are found, whatever the pieces.
func TestStreamsAgainstNetHTTP(t *testing.T) {
	err := streams(20000, false, func(r *rand.Rand, b []byte, response bool) error { return compare(Own(), r, b, response, true) })
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedStreamsAgainstNetHTTP: what is damaged is read alike, or given up.
func TestDamagedStreamsAgainstNetHTTP(t *testing.T) {
	err := streams(60000, true, func(r *rand.Rand, b []byte, response bool) error { return compare(Own(), r, b, response, false) })
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzStreams is the same of any bytes.
func FuzzStreams(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		response := r.IntN(2) == 0
		f.Add([]byte(message(r, response)+message(r, response)), response)
	}
	f.Fuzz(func(t *testing.T, b []byte, response bool) {
		if err := compare(Own(), rand.New(rand.NewPCG(5, 6)), b, response, false); err != nil {
			t.Fatal(err)
		}
	})
}

// carries tries streams that are no HTTP/1, or say in two ways where a message ends.
func carries(t *Table) error {
	const switched, http2, tls, broken = 4, 5, 6, 7
	for _, c := range []struct {
		in       string
		response bool
		want     int
	}{
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, http2},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", false, tls},
		{"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab\n", false, broken},
		{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x00\x01", true, switched},
		{"SSH-2.0-x\r\n", true, broken},
		{"HTTP/2 200\r\n\r\n", true, broken},
		{"HTTP/1.1 600 x\r\n\r\n", true, broken},
		{"GET / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", false, broken},
		{"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, broken},
		{"GET / HTTP/1.1\r\nContent-Length: 2\r\n 3\r\n\r\n", false, broken},
		{"GET / HTTP/1.1\r\nContent-Length:               12345\r\n\r\n", false, broken},
		{"GET / HTTP/1.1\r\nTransfer-Encoding: chunked,\r\n\r\n", false, broken},
	} {
		f := t.NewStream(c.response, 0).Feed([]byte(c.in))
		if f.Last != c.want {
			return fmt.Errorf("%q: event %d, want %d", c.in, f.Last, c.want)
		}
	}
	return nil
}

// TestWhatOthersCarry: what is no HTTP/1 is known by its first bytes.
func TestWhatOthersCarry(t *testing.T) {
	if err := carries(Own()); err != nil {
		t.Fatal(err)
	}
}

// TestSegments: sequence numbers say what is scanned; also across their wrap.
func TestSegments(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n"
	body := strings.Repeat("b", 3000)
	start := ^uint32(0) - 100
	at := func(n int) uint32 { return start + uint32(n) }
	all := head + body
	type piece struct{ from, to int }
	n := len(all)
	for _, c := range []struct {
		name   string
		pieces []piece
		ended  int
		lost   bool
	}{
		{"in order", []piece{{0, 100}, {100, 1000}, {1000, n}}, 1, false},
		{"each twice", []piece{{0, 100}, {0, 100}, {100, n}, {100, n}}, 1, false},
		{"overlapping", []piece{{0, 100}, {50, 200}, {10, n}}, 1, false},
		{"a body's bytes in the wrong order", []piece{{0, 100}, {1000, 2000}, {100, 1000}, {2000, n}}, 1, false},
		{"the last of a body before the others", []piece{{0, 100}, {1000, n}, {100, 1000}}, 1, false},
		{"a head's bytes in the wrong order", []piece{{20, 40}}, 0, true},
		{"the end of a body missing before what follows", []piece{{0, 100}, {n, n + 10}}, 0, true},
	} {
		s, ended, lost := Own().NewStream(true, start), 0, false
		long := all + head
		for _, p := range c.pieces {
			f, ok := s.Segment(at(p.from), []byte(long[p.from:p.to]))
			lost = lost || !ok
			ended += f.Ended
		}
		if ended != c.ended || lost != c.lost {
			t.Errorf("%s: %d messages, lost %v", c.name, ended, lost)
		}
	}
}

// TestBuckets: the middle of a bucket is wrong by 6 % at most, and they are in order.
func TestBuckets(t *testing.T) {
	own := Own()
	r := rand.New(rand.NewPCG(7, 8))
	last := -1
	for ns := uint64(1 << 10); ns < 1<<36; ns += 1 + uint64(r.Int64N(int64(ns>>7+1))) {
		n := own.Bucket(ns)
		if n < last {
			t.Fatalf("%d ns: bucket %d, one less than a shorter time", ns, n)
		}
		last = n
		low := float64(uint64(8+n%8)) * float64(uint64(1)<<(10+n/8)) / 8
		high := float64(uint64(9+n%8)) * float64(uint64(1)<<(10+n/8)) / 8
		middle := 2 * low * high / (low + high)
		if float64(ns) < low || float64(ns) >= high || max(middle/float64(ns), float64(ns)/middle) > 1.063 {
			t.Fatalf("%d ns: bucket %d, from %f to %f", ns, n, low, high)
		}
	}
	if n := own.Bucket(1 << 50); n != 207 {
		t.Errorf("a long time: bucket %d", n)
	}
	if n := own.Bucket(5); n != 0 {
		t.Errorf("a short time: bucket %d", n)
	}
}

var planted = []struct{ name, old, new string }{
	{"length of 32 bytes", "if (n >= OBSERVE_LINE || !some ||", "if (!some ||"},
	{"chunked has a length too", "if (s->chunked) { /*", "if (s->chunked && !s->has_length) { /*"},
	{"204 has a body", "s->status == 204 || ", ""},
	{"1xx is final", "if (s->status < 200)", "if (s->status < 100)"},
	{"obs-fold of a length", "return framed ? STREAM_BROKEN : STREAM_NOTHING;", "return STREAM_NOTHING;"},
	{"decimal chunks", "size = (size | size >> 4)", "size = (size | size >> 5)"},
	{"no trailer", "\tif (n)\n\t\treturn STREAM_NOTHING;\n\ts->at = AT_FIRST;", "\ts->at = AT_FIRST;"},
	{"cut line", "if (kept && kept < OBSERVE_LINE) {", "if (0) {"},
	{"LF in the last word", "i < LINE_LOOK; i += 8", "i < LINE_LOOK - 8; i += 8"},
	{"a field taken for another", " && w != WORD('s', 'f', 'e', 'r', '-', 'e', 'n', 'c')", ""},
	{"a length taken for another field", "w != WORD('e', 'n', 't', '-', 'l', 'e', 'n', 'g') &&", ""},
	{"obs-fold taken for a field", "\tif (*b <= ' ') /* of obs-fold, or the end of the section */\n\t\treturn false;\n", ""},
	{"a field that is not looked at ends obs-fold", "\t\t\t\ts->framed = 0;\n", ""},
	{"a long line's beginning", "\tif (!kept)\n\t\tline_keep(s, b, n);", "\tline_keep(s, b, n);"},
	{"the message before", "\ts->has_length = 0;\n", ""},
	{"two lengths", " || (s->has_length && s->length != length)", ""},
}

// TestPlantedMistakesAreFound shows that the comparison finds mistakes.
func TestPlantedMistakesAreFound(t *testing.T) {
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			table, err := Planted(t.TempDir(), "http1.h", p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			if err = carries(table); err == nil {
				err = streams(20000, false, func(r *rand.Rand, b []byte, response bool) error { return compare(table, r, b, response, true) })
			}
			if err == nil {
				err = streams(60000, true, func(r *rand.Rand, b []byte, response bool) error { return compare(table, r, b, response, false) })
			}
			if err == nil {
				t.Fatal("not found")
			}
			t.Logf("%.200v", err)
		})
	}
}
