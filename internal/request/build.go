package request

import (
	"cmp"
	"sort"
	"strconv"
	"strings"

	"eproxy/internal/abi"
	"eproxy/internal/config"
	"eproxy/internal/field"
)

// typicalHead is how long the head of most requests is at most, in bytes.
const typicalHead = 384

const (
	defaultType   = "mqtt.publish"
	defaultSource = "eproxy"
)

// Prefix is the request up to and including "ce-source: <source>/": what all
// messages of a function share, with its default content type.
func Prefix(fn *config.Function) []byte {
	return appendPrefix(nil, fn, fn.ContentType, "", "")
}

// DefaultType is where in Prefix the function's content type stands, as a line, which is left out for messages that
// bring one along.
func DefaultType(fn *config.Function) (at, length int) {
	if fn.ContentType == "" {
		return 0, 0
	}
	return len(appendStart(nil, fn)), len(appendHeader(nil, "Content-Type", fn.ContentType))
}

// appendStart writes what every request to a function begins with: the request line, Host and the static headers.
func appendStart(dst []byte, fn *config.Function) []byte {
	dst = append(dst, "POST "...)
	dst = append(dst, fn.URL.RequestURI()...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	dst = appendHeader(dst, "Host", fn.URL.Host)
	for _, name := range sortedNames(fn.Headers) {
		dst = appendHeader(dst, name, fn.Headers[name])
	}
	return dst
}

// appendPrefix writes what Prefix is, with these values of ce-type and ce-source in
// place of the function's if they are not empty.
func appendPrefix(dst []byte, fn *config.Function, contentType, typ, source string) []byte {
	dst = appendStart(dst, fn)
	if contentType != "" {
		dst = appendHeader(dst, "Content-Type", contentType)
	}
	dst = appendHeader(dst, "ce-specversion", "1.0")
	dst = append(dst, "ce-type: "...)
	dst = EncodeValue(dst, cmp.Or(typ, fn.CloudEvents.Type, defaultType))
	dst = append(dst, "\r\nce-source: "...)
	if source != "" {
		return EncodeValue(dst, source)
	}
	dst = EncodeValue(dst, Source(fn))
	return append(dst, '/')
}

// Source is the first part of a function's ce-source; '/' and the client id follow.
func Source(fn *config.Function) string { return cmp.Or(fn.CloudEvents.Source, defaultSource) }

// Sender appends what follows Prefix: the rest of ce-source, and the headers that
// say who sent the message, all of which is fixed for a connection. It ends
// without the line's end. With fromPublisher it is longer and begins with the
// same bytes. An empty username is an anonymous client's.
func Sender(dst []byte, clientID, username string, fromPublisher bool) []byte {
	return appendSender(EncodeValue(dst, clientID), clientID, username, fromPublisher)
}

// appendSender writes the headers of Sender.
func appendSender(dst []byte, clientID, username string, fromPublisher bool) []byte {
	if username != "" {
		dst = append(dst, "\r\nX-Mqtt-Username: "...)
		dst = EncodeValue(dst, username)
	}
	if fromPublisher {
		dst = append(dst, "\r\nX-Mqtt-Client-Id: "...)
		dst = EncodeValue(dst, clientID)
	}
	return dst
}

// Typical is how long the request of a message is at most, in most cases.
func Typical(m *Message) int { return typicalHead + len(m.Topic) + len(m.Payload) }

// Build appends the whole request. id is ce-id: printable ASCII without blanks.
func Build(dst []byte, fn *config.Function, m *Message, id string) []byte {
	if dst == nil {
		dst = make([]byte, 0, Typical(m))
	}
	if fn.CloudEvents.Structured {
		return appendJSON(appendTrace(appendStart(dst, fn), fn, m), structuredType, Event(fn, m, id))
	}
	m, a := unwrap(fn, m)
	own, byDefault := ownType(m), ""
	if own == "" {
		byDefault = fn.ContentType
	}
	dst = appendPrefix(dst, fn, byDefault, a["ce-type"], a["ce-source"])
	if a["ce-source"] == "" {
		dst = EncodeValue(dst, m.ClientID)
	}
	dst = appendSender(dst, m.ClientID, m.Username, fn.CloudEvents.FromPublisher)
	dst = append(dst, "\r\nce-subject: "...)
	dst = EncodeValue(dst, cmp.Or(a["ce-subject"], m.Topic))
	dst = append(dst, '\r', '\n')
	dst = appendTrace(dst, fn, m)
	if m.QoS > 0 {
		dst = appendHeader(dst, "X-Mqtt-Qos", strconv.Itoa(int(m.QoS)))
	}
	if m.Retain {
		dst = appendHeader(dst, "X-Mqtt-Retain", "1")
	}
	if m.Dup {
		dst = appendHeader(dst, "X-Mqtt-Dup", "1")
	}
	if own != "" {
		dst = appendHeader(dst, "Content-Type", own)
	}
	if !m.Expires.IsZero() {
		dst = appendHeader(dst, expiryHeader, strconv.Itoa(secondsUntil(m.Expires)))
	}
	for _, name := range sortedNames(a) {
		switch name {
		case "ce-specversion", "ce-type", "ce-source", "ce-subject", "ce-id":
		default:
			dst = appendHeader(dst, name, string(EncodeValue(nil, a[name])))
		}
	}
	dst = appendProperties(dst, fn, m)
	if v := a["ce-id"]; v != "" {
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
func Growth(fn *config.Function, clientID, username string) int {
	m := &Message{ClientID: clientID, Username: username, QoS: 1, Payload: make([]byte, 128)}
	Begin(fn, m)
	// fixed header with two bytes of remaining length, length of the topic, packet identifier
	const head = 3 + 2 + 2
	return len(Build(nil, fn, m, strings.Repeat("0", abi.CeIdLen))) - len(m.Payload) - head
}

func contentTypeOf(fn *config.Function, m *Message) string { return cmp.Or(ownType(m), fn.ContentType) }

// textType is the content type of a message of which its publisher says only that it is text.
const textType = "text/plain; charset=utf-8"

// ownType is the content type that a message brings along; empty: none.
func ownType(m *Message) string {
	switch {
	case m.ContentType != "" && field.ValidValue(m.ContentType):
		return m.ContentType
	case m.PayloadFormat == 1:
		return textType
	}
	return ""
}

func appendHeader(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

func sortedNames(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return strings.ToLower(names[i]) < strings.ToLower(names[j]) })
	return names
}
