package request

import (
	"sort"
	"strconv"
	"strings"

	"eproxy/internal/abi"
	"eproxy/internal/config"
)

const (
	defaultType   = "mqtt.publish"
	defaultSource = "eproxy"
)

// Prefix is the request up to and including "ce-source: <source>/": what all
// messages of a function share, with its default content type.
func Prefix(fn *config.Function) []byte {
	return appendPrefix(nil, fn, fn.ContentType, attributes{})
}

// attributes are ce-* values that a message's user properties override.
type attributes struct{ typ, source string }

func appendPrefix(dst []byte, fn *config.Function, contentType string, a attributes) []byte {
	dst = append(dst, "POST "...)
	dst = append(dst, fn.URL.RequestURI()...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	dst = appendHeader(dst, "Host", fn.URL.Host)
	for _, name := range sortedNames(fn.Headers) {
		dst = appendHeader(dst, name, fn.Headers[name])
	}
	if contentType != "" {
		dst = appendHeader(dst, "Content-Type", contentType)
	}
	dst = appendHeader(dst, "ce-specversion", "1.0")
	typ := a.typ
	if typ == "" {
		typ = fn.CloudEvents.Type
	}
	if typ == "" {
		typ = defaultType
	}
	dst = append(dst, "ce-type: "...)
	dst = EncodeValue(dst, typ)
	dst = append(dst, "\r\nce-source: "...)
	if a.source != "" {
		return EncodeValue(dst, a.source)
	}
	source := fn.CloudEvents.Source
	if source == "" {
		source = defaultSource
	}
	dst = EncodeValue(dst, source)
	return append(dst, '/')
}

// Head is the request up to and including ce-subject.
func Head(prefix []byte, clientID, topic string) []byte {
	dst := append([]byte(nil), prefix...)
	dst = EncodeValue(dst, clientID)
	return appendSubject(dst, topic)
}

func appendSubject(dst []byte, topic string) []byte {
	dst = append(dst, "\r\nce-subject: "...)
	dst = EncodeValue(dst, topic)
	return append(dst, '\r', '\n')
}

// Build appends the whole request. id is ce-id: printable ASCII without blanks.
func Build(dst []byte, fn *config.Function, m *Message, id string) []byte {
	o := overridesOf(m)
	dst = appendPrefix(dst, fn, contentTypeOf(fn, m), attributes{typ: o["ce-type"], source: o["ce-source"]})
	if o["ce-source"] == "" {
		dst = EncodeValue(dst, m.ClientID)
	}
	subject := m.Topic
	if v := o["ce-subject"]; v != "" {
		subject = v
	}
	dst = appendSubject(dst, subject)
	if m.QoS > 0 {
		dst = appendHeader(dst, "X-Mqtt-Qos", strconv.Itoa(int(m.QoS)))
	}
	if m.Retain {
		dst = appendHeader(dst, "X-Mqtt-Retain", "1")
	}
	if m.Dup {
		dst = appendHeader(dst, "X-Mqtt-Dup", "1")
	}
	for _, name := range sortedNames(o) {
		switch name {
		case "ce-type", "ce-source", "ce-subject", "ce-id":
		default:
			dst = append(dst, name...)
			dst = append(dst, ": "...)
			dst = EncodeValue(dst, o[name])
			dst = append(dst, '\r', '\n')
		}
	}
	dst = appendProperties(dst, m)
	if v := o["ce-id"]; v != "" {
		id = string(EncodeValue(nil, v))
	}
	dst = appendHeader(dst, "ce-id", id)
	dst = appendHeader(dst, "Content-Length", strconv.Itoa(len(m.Payload)))
	dst = append(dst, '\r', '\n')
	return append(dst, m.Payload...)
}

// Growth is by how many bytes the request of a typical PUBLISH is longer than
// the PUBLISH: of QoS 1, with 128 to 999 bytes of payload, and a topic that
// needs no escapes. XDP makes that room at the head of the packet.
func Growth(fn *config.Function, clientID string) int {
	m := &Message{ClientID: clientID, QoS: 1, Payload: make([]byte, 128)}
	// fixed header with two bytes of remaining length, length of the topic, packet identifier
	const head = 3 + 2 + 2
	return len(Build(nil, fn, m, strings.Repeat("0", abi.CeIdLen))) - len(m.Payload) - head
}

func contentTypeOf(fn *config.Function, m *Message) string {
	switch {
	case m.ContentType != "" && SafeValue(m.ContentType):
		return m.ContentType
	case m.PayloadFormat == 1:
		return "text/plain; charset=utf-8"
	}
	return fn.ContentType
}

func appendHeader(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return strings.ToLower(names[i]) < strings.ToLower(names[j]) })
	return names
}
