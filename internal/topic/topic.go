// Package topic knows MQTT topic names and filters: what is valid, what
// matches, which filter is the most specific, and how a set of filters becomes
// the automaton that the kernel path follows (MQTT 3.1.1 section 4.7).
package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Errors of ValidateName and ValidateFilter.
var (
	ErrEmpty    = errors.New("empty")                                      // [MQTT-4.7.3-1]
	ErrTooLong  = errors.New("longer than 65535 bytes")                    // [MQTT-4.7.3-3]
	ErrNUL      = errors.New("contains the NUL character")                 // [MQTT-4.7.3-2]
	ErrUTF8     = errors.New("not valid UTF-8")                            // [MQTT-1.5.3-1]
	ErrWildcard = errors.New("topic name contains a wildcard")             // [MQTT-3.3.2-2]
	ErrHash     = errors.New("'#' must be the last level and stand alone") // [MQTT-4.7.1-2]
	ErrPlus     = errors.New("'+' must stand alone in its level")          // [MQTT-4.7.1-3]
	ErrLevels   = errors.New("has more than 200 levels")
	ErrShare    = errors.New("shared subscription must be $share/group/filter") // MQTT 5 section 4.8.2
)

// MaxLevels is how many levels a name or filter may have. The server's tree of
// subscriptions takes time that grows with their square: 65,535 levels, which
// fit in one packet, would stop it for a minute.
const MaxLevels = 200

// text is a name or filter, in a packet or in a configuration.
type text interface{ ~string | ~[]byte }

func validateText[T text](s T) error {
	switch {
	case len(s) == 0:
		return ErrEmpty
	case len(s) > 65535:
		return ErrTooLong
	case !utf8.Valid([]byte(s)): // surrogates are not valid UTF-8 in Go either
		return ErrUTF8
	}
	levels := 1
	for i := range len(s) {
		switch s[i] {
		case 0:
			return ErrNUL
		case '/':
			if levels++; levels > MaxLevels {
				return ErrLevels
			}
		}
	}
	return nil
}

// ValidateName checks the topic name of a PUBLISH.
func ValidateName[T text](name T) error {
	if err := validateText(name); err != nil {
		return err
	}
	for i := range len(name) {
		if name[i] == '+' || name[i] == '#' {
			return ErrWildcard
		}
	}
	return nil
}

// ValidateFilter checks a topic filter, with or without $share/group/ in front.
func ValidateFilter[T text](filter T) error {
	if err := validateText(filter); err != nil {
		return err
	}
	begin, err := shareEnd(filter)
	if err != nil {
		return err
	}
	for i := begin; i < len(filter); i++ {
		first := i == begin || filter[i-1] == '/'
		last := i+1 == len(filter)
		switch filter[i] {
		case '#':
			if !first || !last {
				return ErrHash
			}
		case '+':
			if !first || !last && filter[i+1] != '/' {
				return ErrPlus
			}
		}
	}
	return nil
}

// shareEnd is the offset of the filter behind $share/group/, 0 without it.
func shareEnd[T text](filter T) (int, error) {
	const prefix = "$share/"
	if len(filter) < len(prefix) || string(filter[:len(prefix)]) != prefix {
		return 0, nil
	}
	for i := len(prefix); i < len(filter); i++ {
		switch filter[i] {
		case '+', '#':
			return 0, ErrShare
		case '/':
			if i == len(prefix) || i+1 == len(filter) {
				return 0, ErrShare
			}
			return i + 1, nil
		}
	}
	return 0, ErrShare
}

// Reserved says whether a topic name is the server's alone: its first level is
// $SYS, or $share, with which no name can be subscribed to [MQTT-4.7.2-1],
// (MQTT 5 section 4.8.2). Other names that begin with '$' are anybody's.
func Reserved(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return first == "$SYS" || first == "$share"
}

// StripShare removes $share/group/ from a valid filter.
func StripShare(filter string) string {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		if _, f, ok := strings.Cut(rest, "/"); ok {
			return f
		}
	}
	return filter
}

// Match says whether a valid filter (without $share) matches a valid name. A
// leading wildcard does not match names that begin with '$' [MQTT-4.7.2-1].
func Match(filter, name string) bool {
	if name != "" && name[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	for i, l := range f {
		if l == "#" {
			return true
		}
		if i >= len(n) {
			return false
		}
		if l != "+" && l != n[i] {
			return false
		}
		// "a/#" also matches "a".
		if i == len(n)-1 && i == len(f)-2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(n)
}

// class orders the kinds of levels by how specific they are.
func class(level string) int {
	switch level {
	case "#":
		return 2
	case "+":
		return 1
	}
	return 0
}

// Compare orders filters that match the same name: negative if a is the more
// specific. Levels are compared from left to right, a literal before '+'
// before '#'; where one filter ends, the longer one can only go on with '#'.
func Compare(a, b string) int {
	la, lb := strings.Split(a, "/"), strings.Split(b, "/")
	for i := 0; i < len(la) && i < len(lb); i++ {
		if d := class(la[i]) - class(lb[i]); d != 0 {
			return d
		}
	}
	return len(la) - len(lb)
}
