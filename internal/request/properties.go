package request

import (
	"strings"

	"eproxy/internal/config"
	"eproxy/internal/field"
)

// ceAttributes are the CloudEvents attributes that user properties may set where
// the function says from_publisher (CloudEvents MQTT binding 1.0.2, section 3.1.3),
// under their own names or with the prefix "ce-".
var ceAttributes = map[string]bool{
	"id": true, "type": true, "source": true, "subject": true, "time": true, "dataschema": true,
}

// attributeOf is the ce-* header that a user property sets where the publisher
// decides; empty: none. The version of the specification is eproxy's.
func attributeOf(p UserProperty) string {
	attr, prefixed := strings.CutPrefix(strings.ToLower(p.Name), "ce-")
	if !ceAttributes[attr] && !(prefixed && extensionName(attr)) || attr == "specversion" || !field.ValidValue(p.Value) || p.Value == "" {
		return ""
	}
	return "ce-" + attr
}

// attributesOf are the ce-* headers that a message's user properties set; none
// unless the function lets them.
func attributesOf(fn *config.Function, m *Message) map[string]string {
	if !fn.CloudEvents.FromPublisher {
		return nil
	}
	a := make(map[string]string)
	for _, p := range m.UserProperties {
		if name := attributeOf(p); name != "" {
			a[name] = p.Value
		}
	}
	return a
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

// appendProperties writes the user properties that set no attribute. Their
// names are of a space of their own; those of W3C Trace Context are written elsewhere, unless the function's own headers have them.
func appendProperties(dst []byte, fn *config.Function, m *Message) []byte {
	for _, p := range m.UserProperties {
		if fn.CloudEvents.FromPublisher && attributeOf(p) != "" || traceHeader(fn, p) != "" || !field.ValidName(p.Name) || !field.ValidValue(p.Value) {
			continue
		}
		dst = appendHeader(dst, userHeader+p.Name, p.Value)
	}
	return dst
}

func hasHeader(headers map[string]string, name string) bool {
	for h := range headers {
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}
