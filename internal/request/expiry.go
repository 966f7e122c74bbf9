package request

import (
	"bytes"
	"strconv"
	"time"
)

const (
	expiryHeader = "X-Mqtt-Expiry"
	userHeader   = "X-Mqtt-User-"
)

// secondsUntil is how many seconds are left, rounded up [MQTT-3.3.2-6].
func secondsUntil(t time.Time) int { return max(1, int((time.Until(t)+time.Second-1)/time.Second)) }

// Renew is a request that was made before, of a message that expires then: it says how many seconds are left now.
func Renew(req []byte, expires time.Time) []byte {
	name := []byte("\r\n" + expiryHeader + ": ")
	from := bytes.Index(req, name)
	if expires.IsZero() || from < 0 || from > bytes.Index(req, []byte("\r\n\r\n")) {
		return req
	}
	from += len(name)
	b := make([]byte, 0, len(req)+1)
	b = strconv.AppendInt(append(b, req[:from]...), int64(secondsUntil(expires)), 10)
	return append(b, req[from+bytes.IndexByte(req[from:], '\r'):]...)
}

// ReadProperties reads what a request of the kernel path says of a message's MQTT 5 properties. That the payload is text is not in a request that
// has a content type as well.
func ReadProperties(m *Message, req []byte) {
	head, _, _ := bytes.Cut(req, []byte("\r\n\r\n"))
	_, own, _ := bytes.Cut(head, []byte("\r\nce-subject: ")) // the function's content type stands before
	for line := range bytes.SplitSeq(own, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(": "))
		user, isUser := bytes.CutPrefix(name, []byte(userHeader))
		switch {
		case isUser:
			m.UserProperties = append(m.UserProperties, UserProperty{Name: string(user), Value: string(value)})
		case string(name) == expiryHeader:
			seconds, _ := strconv.ParseUint(string(value), 10, 32) // the kernel path writes nothing else
			m.MessageExpiry = uint32(seconds)
		case string(name) == "Content-Type" && string(value) == textType:
			m.PayloadFormat = 1
		case string(name) == "Content-Type":
			m.ContentType = string(value)
		}
	}
}
