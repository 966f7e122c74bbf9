//go:build cgo

package native

// #include "calls.h"
import "C"

import "unsafe"

// Responses reads b as tc_pod_in reads a segment that begins with a response.
func (t *Table) Responses(b []byte) (a Responses, h HTTP) {
	C.call_responses(t.t, (*u8)(unsafe.SliceData(b)), u32(len(b)), &a, &h)
	return a, h
}

// front is what the programs see of b, with zeros behind what is shorter.
func front(b []byte) (buf [Look]u8) {
	for i := range min(len(b), len(buf)) {
		buf[i] = u8(b[i])
	}
	return buf
}

// ParsePublish is mqtt_publish; only the first Look bytes of b are looked at.
func ParsePublish(b []byte, version byte, p *Publish) int {
	buf := front(b)
	return int(C.call_publish(&buf[0], u32(len(b)), u32(version), p))
}

// ScanProperties is properties_scan; of b no more than PropertiesMax bytes are looked at.
func ScanProperties(b []byte, q *Properties) int {
	var raw [PropertiesMax + 8]u8
	for i := range min(len(b), PropertiesMax) {
		raw[i] = u8(b[i])
	}
	return int(C.call_properties(&raw[0], u32(len(b)), q))
}

// Token is token_byte.
func Token(b byte) bool { return C.call_token(u8(b)) != 0 }

// Plain is text_plain over all of b.
func Plain(b []byte) bool {
	return len(b) == 0 || C.call_plain((*u8)(unsafe.Pointer(&b[0])), u32(len(b))) != 0
}

// Filter says whether the PUBLISH at the front of b is one that a trace of this topic filter shows, and
// which topic it has, as far as that is shown; only the first Look bytes of b are looked at.
func (t *Table) Filter(filter string, b []byte) (matches bool, name string) {
	var f C.struct_tracing
	f.topic_len = u32(len(filter))
	for i := range len(filter) {
		f.topic[i] = u8(filter[i])
	}
	buf := front(b)
	var p Publish
	matches = C.call_filter(t.t, &f, &buf[0], u32(min(len(b), Look)), &p) != 0
	if p.topic_len == 0 {
		return matches, ""
	}
	return matches, string(b[p.topic : p.topic+p.topic_len])
}

// TopicOK runs utf8_step over a topic name.
func TopicOK(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	return C.call_topic_ok((*u8)(unsafe.Pointer(&b[0])), u32(len(b))) != 0
}
