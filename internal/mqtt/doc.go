// Package mqtt reads what MQTT clients send, strictly: MQTT 3.1, 3.1.1 and 5. A
// Decoder stands in front of the MQTT server and lets through only what the
// specification allows; every violation has the reason code that MQTT 5 wants
// for it. ReadPublish and Framing are also the references that the parsers of
// the kernel path are fuzzed against. The package is written from the
// specification and shares nothing with them.
package mqtt

// Control packet types (MQTT 5 section 2.1.2).
const (
	typeConnect     = 1
	typeConnack     = 2
	typePublish     = 3
	typePuback      = 4
	typePubrec      = 5
	typePubrel      = 6
	typePubcomp     = 7
	typeSubscribe   = 8
	typeSuback      = 9
	typeUnsubscribe = 10
	typeUnsuback    = 11
	typePingreq     = 12
	typePingresp    = 13
	typeDisconnect  = 14
	typeAuth        = 15
)
