package mqtt

import "bytes"

// What speaks another protocol on a listener of plain MQTT, mostly because
// somebody set up the wrong port.
var (
	errTLS       = &Error{Code: CodeProtocolError, Clause: firstPacket, Text: "first packet is a TLS handshake: this listener is plain MQTT", foreign: "tls"}
	errHTTP      = &Error{Code: CodeProtocolError, Clause: firstPacket, Text: "first packet is an HTTP request: this listener is plain MQTT, without WebSocket", foreign: "http"}
	errProxy     = &Error{Code: CodeProtocolError, Clause: firstPacket, Text: "first packet is a PROXY protocol header: this listener expects none", foreign: "proxy_protocol"}
	firstPacket  = "MQTT-3.1.0-1"
	foreignBytes = []struct {
		prefix string
		e      *Error
	}{
		{"\x16\x03", errTLS}, // handshake record, RFC 8446 section 5.1
		{"GET ", errHTTP}, {"POST ", errHTTP}, {"PUT ", errHTTP}, {"HEAD ", errHTTP}, {"DELETE ", errHTTP},
		{"OPTIONS ", errHTTP}, {"PATCH ", errHTTP}, {"TRACE ", errHTTP}, {"CONNECT ", errHTTP},
		{"PRI * HTTP/2", errHTTP},            // RFC 9113 section 3.4
		{"PROXY ", errProxy},                 // version 1
		{"\r\n\r\n\x00\r\nQUIT\n", errProxy}, // version 2
	}
)

// foreign is the violation that the first bytes of a connection are if they are
// known to be another protocol's; else nil.
func foreign(b []byte) *Error {
	for _, f := range foreignBytes {
		if bytes.HasPrefix(b, []byte(f.prefix)) {
			return f.e
		}
	}
	return nil
}
