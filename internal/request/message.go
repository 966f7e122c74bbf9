// Package request makes the HTTP request of an MQTT message. The kernel path
// sends the same bytes (bpf/request, bpf/route).
package request

import (
	"time"

	"eproxy/internal/tracecontext"
)

// UserProperty is an MQTT 5 user property; names may repeat.
type UserProperty struct{ Name, Value string }

// Trace is the trace that a message belongs to.
type Trace struct {
	Context tracecontext.Context
	Made    bool // it begins with the message; else its publisher has sent it
}

// Message is one routed PUBLISH.
type Message struct {
	ClientID string
	Username string // whose password the server has checked; empty: the client is anonymous
	Topic    string
	Payload  []byte
	QoS      byte
	Retain   bool
	Dup      bool
	PacketID uint16 // 0 for QoS 0
	EventID  string // its ce-id; empty: each request gets one of its own
	Trace    *Trace // which it belongs to, if it is for a function that wants one; nil: none
	Version  byte   // MQTT protocol level: 3, 4 or 5

	// MQTT 5 properties.
	ContentType     string
	PayloadFormat   byte // 1: UTF-8 text
	UserProperties  []UserProperty
	ResponseTopic   string
	CorrelationData []byte
	MessageExpiry   uint32 // seconds; 0: none

	Expires time.Time // what is not under way by then is not delivered; zero: never
}

// Size is what the message holds of memory, in bytes, as far as its client decides.
func (m *Message) Size() int {
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += len(p.Name) + len(p.Value)
	}
	return n
}
