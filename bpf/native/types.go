//go:build cgo

package native

// #include "shim.h"
import "C"

// The C types, as Go sees them. All sequence numbers are in host byte order.
type (
	// Conn is struct conn: the state of one grafted TCP connection.
	Conn = C.struct_conn
	// Segment is struct segment: what the state machine knows of a segment.
	Segment = C.struct_segment
	// RxVerdict is struct rx_verdict: what to do with a received segment.
	RxVerdict = C.struct_rx_verdict
	// TxVerdict is struct tx_verdict: what to do with a sent segment.
	TxVerdict = C.struct_tx_verdict
	// Stamp is struct stamp: header fields of a segment that the program sends.
	Stamp = C.struct_stamp
	// Graft is struct graft: bytes removed from or inserted into a stream.
	Graft = C.struct_graft
	// Ledger is struct ledger: the grafts of one direction that are not settled.
	Ledger = C.struct_ledger
	// Publish is struct publish: the head of a PUBLISH packet.
	Publish = C.struct_publish
	// Properties is struct properties: the MQTT 5 properties of a PUBLISH.
	Properties = C.struct_properties
	// Responses is struct responses: how far a segment's responses were read.
	Responses = C.struct_responses
	// HTTP is struct http: the head of the response that was read last.
	HTTP = C.struct_http
	// Sack is struct sack: a TCP header's options with selective acknowledgements.
	Sack = C.struct_sack
	// Pubacks is struct pubacks: PUBACKs that are sent again in one segment.
	Pubacks = C.struct_pubacks
	// Framing is struct framing: the state of following MQTT framing.
	Framing = C.struct_framing
	// Recovery is struct recovery: losses among what a slot has in flight.
	Recovery = C.struct_recovery
	// Parking is struct parking: all messages that wait.
	Parking = C.struct_parking
	// Queue is struct queue: those of one function.
	Queue = C.struct_queue
	// IDs is struct ids: packet identifiers of messages under way.
	IDs = C.struct_ids
	// IDTable is struct id_table: those that there is no room for in IDs.
	IDTable = C.struct_id_table

	u8  = C.__u8
	u16 = C.__u16
	u32 = C.__u32
)

// Constants of the headers.
const (
	Ring   = C.LEDGER_RING
	Look   = C.MQTT_LOOK
	TopicN = C.TOPIC_MAX

	IDsMax      = C.IDS_MAX
	IDsInTable  = C.IDS_TABLE
	HoldOutside = C.HOLD_OUTSIDE
	HoldShift   = C.HOLD_SHIFT

	RxPass      = C.RX_PASS
	RxPassRaw   = C.RX_PASS_RAW
	RxAbsorb    = C.RX_ABSORB
	RxRemove    = C.RX_REMOVE
	RxAck       = C.RX_ACK
	RxResend    = C.RX_RESEND
	RxReinject  = C.RX_REINJECT
	RxChallenge = C.RX_CHALLENGE
	RxDrop      = C.RX_DROP

	ConnOpen   = C.CONN_OPEN
	ConnClosed = C.CONN_CLOSED
	KindDevice = C.CONN_DEVICE
	KindSlot   = C.CONN_SLOT

	FlagFinSent = C.CONN_FIN_SENT
	FlagFinSeen = C.CONN_FIN_SEEN
	FlagBroken  = C.CONN_BROKEN
	FlagLost    = C.CONN_LOST
	FlagRstSent = C.CONN_RST_SENT
	FlagPassed  = C.CONN_PASSED
	FlagSack    = C.CONN_SACK

	GraftOpen = C.GRAFT_OPEN
	GraftDone = C.GRAFT_DONE
	GraftMax  = C.GRAFT_MAX

	FIN = C.TH_FIN
	SYN = C.TH_SYN
	RST = C.TH_RST
	PSH = C.TH_PSH
	ACK = C.TH_ACK

	ReasonTaken      = C.REASON_TAKEN
	ReasonNotPublish = C.REASON_NOT_PUBLISH
	ReasonQoS2       = C.REASON_QOS2
	ReasonRetain     = C.REASON_RETAIN
	ReasonPartial    = C.REASON_PARTIAL
	ReasonMalformed  = C.REASON_MALFORMED
	ReasonProperties = C.REASON_PROPERTIES
	ReasonTopicLong  = C.REASON_TOPIC_LONG
	ReasonPacketID   = C.REASON_PACKET_ID
	ReasonDup        = C.REASON_DUP

	ReasonPropertiesLong = C.REASON_PROPERTIES_LONG

	PropertiesMax = C.PROPERTIES_MAX
	UsersMax      = C.USERS_MAX
	AliasesMax    = C.ALIASES_MAX
)

// truth is a bool of C's.
func truth(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
