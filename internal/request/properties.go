package request

import "strings"

// ceAttributes are the CloudEvents attributes that user properties may set
// (CloudEvents MQTT binding 1.0.2, section 3.1.3), under their own names or
// with the prefix "ce-".
var ceAttributes = map[string]bool{
	"id": true, "type": true, "source": true, "subject": true, "time": true, "dataschema": true,
}

// overridesOf are the ce-* headers that a message's user properties set.
func overridesOf(m *Message) map[string]string {
	var o map[string]string
	for _, p := range m.UserProperties {
		name := strings.ToLower(p.Name)
		attr, prefixed := strings.CutPrefix(name, "ce-")
		if !ceAttributes[attr] && !(prefixed && extensionName(attr)) || attr == "specversion" || !SafeValue(p.Value) || p.Value == "" {
			continue
		}
		if o == nil {
			o = make(map[string]string)
		}
		o["ce-"+attr] = p.Value
	}
	return o
}

// extensionName says whether a CloudEvents extension attribute may be called so.
func extensionName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// appendProperties writes the user properties that are no CloudEvents attributes.
func appendProperties(dst []byte, m *Message) []byte {
	for _, p := range m.UserProperties {
		name := strings.ToLower(p.Name)
		attr, prefixed := strings.CutPrefix(name, "ce-")
		if ceAttributes[attr] || prefixed || name == "specversion" || !SafeName(p.Name) || !SafeValue(p.Value) {
			continue
		}
		switch name {
		case "traceparent", "tracestate":
			dst = appendHeader(dst, name, p.Value)
		default:
			dst = appendHeader(dst, "X-Mqtt-User-"+p.Name, p.Value)
		}
	}
	return dst
}

// SafeName says whether s can be a header name: a token (RFC 9110 section 5.6.2).
func SafeName(s string) bool {
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

// SafeValue says whether s can be a header value as it is: no control
// characters but the tab (RFC 9110 section 5.5). CR, LF and NUL would let a
// client write headers of its own.
func SafeValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
