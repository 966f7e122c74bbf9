package mqtt

import (
	"errors"

	"eproxy/internal/topic"
)

// Errors of ReadPublish that are no fault of the client's.
var (
	// ErrShort: the packet continues beyond the bytes at hand.
	ErrShort = errors.New("packet is not complete")
	// ErrNotPublish: another control packet.
	ErrNotPublish = errors.New("packet is not a publish")
)

// Reason codes of MQTT 5 section 2.4 that an Error may have.
const (
	CodeMalformed      = 0x81
	CodeProtocolError  = 0x82
	codeVersion        = 0x84
	codeClientID       = 0x85
	codeAuthMethod     = 0x8c
	codeTopicFilter    = 0x8f
	codeTopicName      = 0x90
	codeTopicAlias     = 0x94
	codePacketTooLarge = 0x95
)

// Return codes of CONNACK in MQTT 3.1 and 3.1.1 (MQTT 3.1.1 section 3.2.2.3).
const (
	connackVersion    = 1
	connackIdentifier = 2
)

// Error is a violation of the specification: the connection ends.
type Error struct {
	Code    byte   // reason code of MQTT 5 section 2.4, 0x80 or above
	Connack byte   // return code of MQTT 3.1.1 section 3.2.2.3; 0: the connection is closed without CONNACK
	Clause  string // numbered as in MQTT 5; its section where the sentence has no number
	Text    string // what is wrong, in one line

	foreign string // the protocol that was spoken instead, as a name in metrics
}

func (e *Error) Error() string { return e.Text + " [" + e.Clause + "]" }

// Name is the kind of violation, as a name in metrics: what an operator can do
// about it differs.
func (e *Error) Name() string {
	switch {
	case e.foreign != "":
		return e.foreign
	case e.Code == codePacketTooLarge:
		return "packet_too_large"
	case e.Code == CodeMalformed:
		return "malformed"
	}
	return "protocol_error"
}

func malformed(clause, text string) *Error {
	return &Error{Code: CodeMalformed, Clause: clause, Text: text}
}

func protocolError(clause, text string) *Error {
	return &Error{Code: CodeProtocolError, Clause: clause, Text: text}
}

// All violations. Each is one value, so that they can be compared and counted,
// and a hostile client costs no memory.
var (
	// Framing and data types.
	errReservedType  = malformed("MQTT 5 section 2.1.2", "reserved control packet type")
	errFlags         = malformed("MQTT-2.1.3-1", "reserved flag of the fixed header has the wrong value")
	errLengthLong    = malformed("MQTT 5 section 1.5.5", "variable byte integer is longer than four bytes")
	errLengthMinimal = malformed("MQTT-1.5.5-1", "variable byte integer has more bytes than it needs")
	errTruncated     = malformed("MQTT 5 section 2.1.4", "packet ends inside a field")
	errTrailing      = malformed("MQTT 5 section 2.1.4", "bytes behind the packet's last field")
	errUTF8          = malformed("MQTT-1.5.4-1", "string is not valid UTF-8")
	errNUL           = malformed("MQTT-1.5.4-2", "string contains the null character")
	errTooLarge      = &Error{Code: codePacketTooLarge, Clause: "MQTT-3.2.2-15", Text: "packet is larger than the server allows"}
	errServerOnly    = protocolError("MQTT 5 section 2.1.2", "control packet that only a server sends")
	errPacketID      = protocolError("MQTT-2.2.1-3", "packet identifier is 0")

	// Properties.
	errPropertyUnknown   = malformed("MQTT 5 section 2.2.2.2", "property identifier is unknown")
	errPropertyForeign   = malformed("MQTT 5 section 2.2.2.2", "property is not allowed in this packet")
	errPropertyDuplicate = protocolError("MQTT 5 section 2.2.2.2", "property is included more than once")
	errPropertyValue     = protocolError("MQTT 5 section 2.2.2.2", "property has a value that is not allowed")
	errPropertyLength    = malformed("MQTT 5 section 2.2.2.1", "property ends beyond the property length")
	errAliasInvalid      = &Error{Code: codeTopicAlias, Clause: "MQTT-3.3.2-8", Text: "topic alias is 0 or larger than the server allows"}
	errAliasUnknown      = protocolError("MQTT 5 section 3.3.2.3.4", "topic alias has no topic yet")
	errSubscriptionID    = protocolError("MQTT-3.3.4-6", "PUBLISH of a client contains a subscription identifier")

	// CONNECT.
	errFirstPacket     = protocolError("MQTT-3.1.0-1", "first packet is not CONNECT")
	errSecondConnect   = protocolError("MQTT-3.1.0-2", "second CONNECT")
	errProtocolName    = &Error{Code: codeVersion, Clause: "MQTT-3.1.2-1", Text: "protocol name is neither MQTT nor MQIsdp"}
	errProtocolVersion = &Error{Code: codeVersion, Connack: connackVersion, Clause: "MQTT-3.1.2-2", Text: "protocol version is not supported"}
	errConnectReserved = malformed("MQTT-3.1.2-3", "reserved flag of CONNECT is not 0")
	errWillFlags       = malformed("MQTT-3.1.2-11", "will QoS or will retain without will flag")
	errWillQoS         = malformed("MQTT-3.1.2-12", "will QoS is 3")
	errPasswordFlag    = malformed("MQTT-3.1.2-22 of MQTT 3.1.1", "password without user name")
	errClientID        = &Error{Code: codeClientID, Connack: connackIdentifier, Clause: "MQTT-3.1.3-8", Text: "empty client identifier of a client that wants its session kept"}
	errClientID31      = &Error{Code: codeClientID, Connack: connackIdentifier, Clause: "MQTT 3.1 section 3.1", Text: "empty client identifier"}
	errAuthMethod      = &Error{Code: codeAuthMethod, Clause: "MQTT-4.12.0-1", Text: "authentication method is not supported"}
	errAuthData        = protocolError("MQTT 5 section 3.1.2.11.10", "authentication data without authentication method")

	// Others.
	errQoS            = malformed("MQTT-3.3.1-4", "QoS is 3")
	errDup            = malformed("MQTT-3.3.1-2", "DUP flag with QoS 0")
	errTopicEmpty     = protocolError("MQTT-4.7.3-1", "topic is empty")
	errTopicWildcard  = malformed("MQTT-3.3.2-2", "topic name contains a wildcard")
	errTopicLevels    = &Error{Code: codeTopicName, Clause: "MQTT 5 section 4.7.3", Text: "topic has more levels than the server allows"}
	errFilterLevels   = &Error{Code: codeTopicFilter, Clause: "MQTT 5 section 4.7.3", Text: "topic filter has more levels than the server allows"}
	errFilterHash     = malformed("MQTT-4.7.1-1", "# is not the last level of the topic filter or does not stand alone")
	errFilterPlus     = malformed("MQTT-4.7.1-2", "+ does not stand alone in its level of the topic filter")
	errFilterShare    = malformed("MQTT-4.8.2-1", "shared subscription is not $share/group/filter")
	errFilters        = protocolError("MQTT-3.8.3-2", "no topic filter")
	errOptions        = malformed("MQTT-3.8.3-5", "reserved bits of the subscription options are not 0")
	errOptionsQoS     = protocolError("MQTT 5 section 3.8.3.1", "maximum QoS of a subscription is 3")
	errRetainHandling = protocolError("MQTT 5 section 3.8.3.1", "retain handling of a subscription is 3")
	errNoLocal        = protocolError("MQTT-3.8.3-4", "no local on a shared subscription")
	errReason         = protocolError("MQTT 5 section 2.4", "reason code is not one of this packet's")
	errExpiryRaised   = protocolError("MQTT 5 section 3.14.2.2.2", "session expiry is raised from 0 by DISCONNECT")
	errAuth           = protocolError("MQTT-4.12.0-7", "AUTH without authentication method in CONNECT")
)

// ErrAfterDisconnect: bytes behind DISCONNECT, which nobody reads [MQTT-3.14.4-1].
var ErrAfterDisconnect = protocolError("MQTT-3.14.4-1", "packet behind DISCONNECT")

// nameError is the violation that an error of topic.ValidateName is.
func nameError(err error) *Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, topic.ErrEmpty):
		return errTopicEmpty
	case errors.Is(err, topic.ErrUTF8):
		return errUTF8
	case errors.Is(err, topic.ErrNUL):
		return errNUL
	case errors.Is(err, topic.ErrLevels):
		return errTopicLevels
	}
	return errTopicWildcard
}

// filterError is the violation that an error of topic.ValidateFilter is.
func filterError(err error) *Error {
	switch {
	case errors.Is(err, topic.ErrLevels):
		return errFilterLevels
	case errors.Is(err, topic.ErrHash):
		return errFilterHash
	case errors.Is(err, topic.ErrPlus):
		return errFilterPlus
	case errors.Is(err, topic.ErrShare):
		return errFilterShare
	}
	return nameError(err)
}
