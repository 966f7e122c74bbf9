// Package tracecontext knows the headers of W3C Trace Context, level 1: traceparent and tracestate.
package tracecontext

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// The headers.
const (
	Parent = "traceparent"
	State  = "tracestate"
)

// Sampled is the flag that says that who made the context may have recorded it (section 3.2.2.5.1).
const Sampled = 1

// Context says which trace a message belongs to, and which span of it has sent it.
type Context struct {
	Trace [16]byte
	Span  [8]byte
	Flags byte
}

const (
	parentLen  = 55  // of version 00: version, trace, span and flags, with a dash between each
	maxMembers = 32  // of a tracestate (section 3.3.1.1)
	maxKey     = 256 // of a member (section 3.3.1.3.1)
	maxValue   = 256 // of a member (section 3.3.1.3.2)
)

// New makes the context of a message that begins a trace.
func New(sampled bool) (c Context) {
	_, _ = rand.Read(c.Trace[:]) // never fails
	_, _ = rand.Read(c.Span[:])
	if sampled {
		c.Flags = Sampled
	}
	return c
}

// String is the traceparent, in version 00.
func (c Context) String() string {
	b := make([]byte, 0, parentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, c.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, c.Span[:])
	b = append(b, '-')
	return string(hex.AppendEncode(b, []byte{c.Flags}))
}

// Parse reads a traceparent (section 3.2): of a version above 00 what 00 has, too. false: it is malformed.
func Parse(s string) (c Context, ok bool) {
	if len(s) < parentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !decode(version[:], s[:2]) || !decode(c.Trace[:], s[3:35]) || !decode(c.Span[:], s[36:52]) || !decode(flags[:], s[53:55]) {
		return c, false
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(s) > parentLen, len(s) > parentLen && s[parentLen] != '-':
		return c, false
	case c.Trace == [16]byte{}, c.Span == [8]byte{}:
		return c, false
	}
	for i := parentLen; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return c, false
		}
	}
	c.Flags = flags[0]
	return c, true
}

// decode reads digits, which must be of lower case (section 3.2.2).
func decode(dst []byte, s string) bool {
	if strings.ContainsAny(s, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// ValidState says whether values of tracestate, together one list in their order, may be passed on (section 3.3.1).
func ValidState(values []string) bool {
	seen := make(map[string]bool)
	for _, v := range values {
		for member := range strings.SplitSeq(v, ",") {
			member = strings.Trim(member, " \t")
			if member == "" {
				continue
			}
			key, value, ok := strings.Cut(member, "=")
			if !ok || !validKey(key) || !validValue(value) || seen[key] {
				return false
			}
			seen[key] = true
		}
	}
	return len(seen) <= maxMembers
}

// validKey says whether s is a key: of lower case letters, digits and _-*/, perhaps with a tenant before an @.
func validKey(s string) bool {
	tenant, system, multi := strings.Cut(s, "@")
	if multi && (len(tenant) > 241 || len(system) > 14 || !keyPart(system, false)) {
		return false
	}
	return len(s) <= maxKey && keyPart(tenant, multi)
}

// keyPart says whether s is a part of a key, which only a tenant may begin with a digit.
func keyPart(s string, digit bool) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z':
		case c >= '0' && c <= '9' && (i > 0 || digit):
		case i > 0 && strings.IndexByte("_-*/", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// validValue says whether s is a value: printable ASCII without ',' and '=', not ending with a blank.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return s != "" && len(s) <= maxValue && s[len(s)-1] != ' '
}
