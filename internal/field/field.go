// Package field knows what an HTTP field may be (RFC 9110 section 5), and which
// ones are no business of a configuration's or a client's.
package field

import "strings"

// ValidName says whether s can be a field name: a token (RFC 9110 section 5.6.2).
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// ValidValue says whether s can be sent as a field value: no control characters
// but the tab (RFC 9110 section 5.5). CR, LF and NUL would let whoever chose the
// value write fields of its own.
func ValidValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Trimmed says whether s begins and ends without whitespace, which is no part of a
// field value (RFC 9110 section 5.5): who receives it takes it off.
func Trimmed(s string) bool { return strings.Trim(s, " \t") == s }

// Why fields are reserved.
const (
	framing    = "says where the request ends, which is eproxy's to say" // RFC 9112 section 6
	connection = "is about a connection, which eproxy manages"           // RFC 9110 section 7.6.1
	own        = "is written by eproxy itself"
)

// reserved are the names, in lower case, of fields that are not set from outside.
var reserved = map[string]string{
	"content-length": framing, "transfer-encoding": framing, "trailer": framing,
	"connection": connection, "keep-alive": connection, "proxy-connection": connection,
	"te": connection, "upgrade": connection, "http2-settings": connection,
	"host": own, "content-type": own,
	// RFC 9110 section 10.1.1: the body follows at once, whatever the server says.
	"expect": "asks the server for a response before the body, which eproxy does not wait for",
	// RFC 9110 section 6.6.1.
	"date": "would be the same time in all requests",
}

// Reserved says why a request's field of that name may not be set from outside;
// "" if it may. Name is in any case.
func Reserved(name string) string {
	lower := strings.ToLower(name)
	if strings.HasPrefix(lower, "ce-") || strings.HasPrefix(lower, "x-mqtt-") {
		return own
	}
	return reserved[lower]
}
