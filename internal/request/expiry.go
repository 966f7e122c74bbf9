package request

import (
	"bytes"
	"strconv"
	"time"
)

// expiryHeader says how many seconds a message has left.
const expiryHeader = "X-Mqtt-Expiry"

// secondsUntil is how many seconds are left, rounded up [MQTT-3.3.2-6].
func secondsUntil(t time.Time) int { return max(1, int((time.Until(t)+time.Second-1)/time.Second)) }

// expiryOf finds the value of X-Mqtt-Expiry in a request: req[from:to]; false if it has none.
func expiryOf(req []byte) (from, to int, ok bool) {
	end := bytes.Index(req, []byte("\r\n\r\n"))
	from = bytes.Index(req, []byte("\r\n"+expiryHeader+": "))
	if from < 0 || from > end {
		return 0, 0, false
	}
	from += len("\r\n" + expiryHeader + ": ")
	return from, from + bytes.IndexByte(req[from:], '\r'), true
}

// Expiry is how long a message was to be of use when its request was made; 0: there is no such time.
func Expiry(req []byte) time.Duration {
	from, to, ok := expiryOf(req)
	if !ok {
		return 0
	}
	seconds, err := strconv.ParseUint(string(req[from:to]), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// Renew is a request that was made before, of a message that expires then: it says how many seconds are left now.
func Renew(req []byte, expires time.Time) []byte {
	from, to, ok := expiryOf(req)
	if !ok {
		return req
	}
	b := make([]byte, 0, len(req))
	b = strconv.AppendInt(append(b, req[:from]...), int64(secondsUntil(expires)), 10)
	return append(b, req[to:]...)
}
