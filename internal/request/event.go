package request

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"eproxy/internal/config"
	"eproxy/internal/field"
	"eproxy/internal/tracecontext"
)

// Media types of CloudEvents in JSON (JSON format 1.0.2, sections 3 and 4).
const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
)

// Event is a message as a CloudEvent in JSON. id is its id, unless its publisher decides. What binary mode has in X-Mqtt-*
// headers is in extension attributes that begin with "mqtt", which no publisher can set.
func Event(fn *config.Function, m *Message, id string) []byte {
	m, a := unwrap(fn, m)
	e := map[string]any{
		"specversion": "1.0",
		"id":          cmp.Or(a["ce-id"], id),
		"type":        cmp.Or(a["ce-type"], fn.CloudEvents.Type, defaultType),
		"source":      cmp.Or(a["ce-source"], Source(fn)+"/"+uriPath(m.ClientID)),
		"subject":     cmp.Or(a["ce-subject"], m.Topic),
	}
	for name, value := range a {
		if attr := strings.TrimPrefix(name, "ce-"); !strings.HasPrefix(attr, "mqtt") {
			e[attr] = value
		}
	}
	context(e, fn, m)
	data(e, contentTypeOf(fn, m), m.Payload)
	b, _ := json.Marshal(e) // of strings and numbers, and JSON that was read
	return b
}

// uriPath is a client identifier in a URI-reference.
func uriPath(s string) string { return string(EncodeValue(nil, s)) }

// context adds what MQTT knows of a message.
func context(e map[string]any, fn *config.Function, m *Message) {
	e["mqttclientid"] = m.ClientID
	if m.Username != "" {
		e["mqttusername"] = m.Username
	}
	if m.QoS > 0 {
		e["mqttqos"] = int(m.QoS)
	}
	if m.Retain {
		e["mqttretain"] = true
	}
	if m.Dup {
		e["mqttdup"] = true
	}
	if !m.Expires.IsZero() {
		e["mqttexpiry"] = secondsUntil(m.Expires)
	}
	if parent, states := traceOf(fn, m); parent != "" {
		e[tracecontext.Parent] = parent
		if states != nil {
			e[tracecontext.State] = strings.Join(states, ",")
		}
	}
	var rest [][2]string
	for _, p := range m.UserProperties {
		switch {
		case fn.CloudEvents.FromPublisher && attributeOf(p) != "":
		case traceHeader(fn, p) != "":
		default:
			rest = append(rest, [2]string{p.Name, p.Value})
		}
	}
	if rest != nil { // attributes are no lists
		text, _ := json.Marshal(rest)
		e["mqttuserproperties"] = string(text)
	}
}

// data adds the payload: JSON as it is, text as a string, everything else in base64.
func data(e map[string]any, contentType string, payload []byte) {
	if contentType != "" {
		e["datacontenttype"] = contentType
	}
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case len(payload) == 0:
	case isJSON(media) && json.Valid(payload) && utf8.Valid(payload):
		e["data"] = json.RawMessage(payload)
	case strings.HasPrefix(media, "text/") && utf8.Valid(payload):
		e["data"] = string(payload)
	default:
		e["data_base64"] = base64.StdEncoding.EncodeToString(payload)
	}
}

// isJSON says whether data of a media type is JSON; what names none is.
func isJSON(media string) bool {
	return media == "" || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

// Batch is a request with several events.
func Batch(fn *config.Function, events [][]byte) []byte {
	size := 2 + len(events)
	for _, e := range events {
		size += len(e)
	}
	body := make([]byte, 0, size)
	body = append(body, '[')
	body = append(body, bytes.Join(events, []byte{','})...)
	return appendJSON(appendStart(make([]byte, 0, typicalHead+len(body)), fn), batchType, append(body, ']'))
}

// appendJSON writes the rest of a request whose body is JSON.
func appendJSON(dst []byte, media string, body []byte) []byte {
	dst = appendHeader(dst, "Content-Type", media)
	dst = appendHeader(dst, "Content-Length", strconv.Itoa(len(body)))
	return append(append(dst, '\r', '\n'), body...)
}

// unwrap reads what a publisher says itself of a message, where the function lets it: by user properties, or as an event
// in JSON (MQTT binding 1.0.2, section 3.2), which MQTT 3.1.1 has no other way to name than by what it is. It returns the
// message as the event has it, and its ce-* attributes.
func unwrap(fn *config.Function, m *Message) (*Message, map[string]string) {
	a := attributesOf(fn, m)
	if a == nil {
		return m, nil
	}
	media, _, _ := mime.ParseMediaType(m.ContentType)
	if m.Version < 5 && m.ContentType == "" || media == structuredType {
		if inner, attributes, ok := parseEvent(m); ok {
			return inner, attributes
		}
	}
	return m, a
}

// parseEvent reads a payload that is an event in JSON; false: it is none.
func parseEvent(m *Message) (*Message, map[string]string, bool) {
	if p := bytes.TrimLeft(m.Payload, " \t\r\n"); len(p) == 0 || p[0] != '{' {
		return nil, nil, false
	}
	var e map[string]json.RawMessage
	if json.Unmarshal(m.Payload, &e) != nil {
		return nil, nil, false
	}
	inner, a := *m, make(map[string]string)
	inner.Payload, inner.PayloadFormat, inner.ContentType = nil, 0, "application/json"
	for name, raw := range e {
		value, ok := attributeValue(raw)
		switch {
		case name == "data" || name == "data_base64":
		case string(raw) == "null":
		case !ok || !extensionName(name) || !field.ValidValue(value):
			return nil, nil, false
		case name == "datacontenttype":
			inner.ContentType = value
		default:
			a["ce-"+name] = value
		}
	}
	if a["ce-specversion"] != "1.0" || a["ce-id"] == "" || a["ce-source"] == "" || a["ce-type"] == "" || !inner.take(e) {
		return nil, nil, false
	}
	delete(a, "ce-specversion")
	if t, err := time.Parse(time.RFC3339, a["ce-time"]); a["ce-time"] != "" && (err != nil || t.IsZero()) {
		return nil, nil, false
	}
	return &inner, a, true
}

// attributeValue is an attribute as a string: they are strings, integers or booleans (JSON format 1.0.2, section 2.2).
func attributeValue(raw json.RawMessage) (string, bool) {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		_, err := strconv.ParseInt(v.String(), 10, 32)
		return v.String(), err == nil
	}
	return "", false
}

// take makes the event's data the payload; false: it has it twice, or not as it must be.
func (m *Message) take(e map[string]json.RawMessage) bool {
	data, base := e["data"], e["data_base64"]
	switch {
	case data != nil && base != nil:
		return false
	case base != nil:
		var text string
		if json.Unmarshal(base, &text) != nil {
			return false
		}
		b, err := base64.StdEncoding.DecodeString(text)
		m.Payload = b
		return err == nil
	case data == nil:
		return true
	}
	media, _, _ := mime.ParseMediaType(m.ContentType)
	var text string
	if !isJSON(media) && json.Unmarshal(data, &text) == nil {
		m.Payload = []byte(text)
		return true
	}
	m.Payload = slices.Clone(data)
	return true
}
