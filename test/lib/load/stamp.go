package load

import (
	"fmt"
	"strconv"
	"time"
)

// StampLength is how much of a payload the time of sending takes, in bytes.
const StampLength = 16

// putStamp writes the time of sending at the beginning of a payload: Unix nanoseconds, in hexadecimal digits.
func putStamp(payload []byte) {
	copy(payload, fmt.Sprintf("%016x", time.Now().UnixNano()))
}

// Stamp is when a payload was sent, if it says so.
func Stamp(payload []byte) (sent time.Time, ok bool) {
	if len(payload) < StampLength {
		return sent, false
	}
	n, err := strconv.ParseInt(string(payload[:StampLength]), 16, 64)
	return time.Unix(0, n), err == nil
}
