package mochi

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/store"
	"eproxy/internal/topic"
)

// keep puts on disk what outlives the program. A nil one keeps nothing.
type keep struct {
	store  *store.Store
	log    func(message string, args ...any)
	holder func(*mochi.Client) *mochi.Client // who has a client's session; nil: it has ended
}

var _ broker.Keeper = (*keep)(nil)

// keptSession is a session's record.
type keptSession struct {
	Version byte   `json:"version"`           // MQTT protocol level
	Expiry  uint32 `json:"expiry,omitempty"`  // seconds after the connection's end, MQTT 5
	Left    int64  `json:"left,omitempty"`    // when that was, Unix time in seconds; 0: the client is connected
	Largest uint32 `json:"largest,omitempty"` // packet that the client takes, bytes; 0: any
}

// lasts says whether a client's session outlives its connection.
func lasts(cl *mochi.Client) bool {
	p := &cl.Properties
	return p.ProtocolVersion < 5 && !p.Clean || p.ProtocolVersion == 5 && expiry(cl) > 0
}

// expiry is a client's Session Expiry Interval in seconds, for any goroutine.
func expiry(cl *mochi.Client) uint32 {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.expiry.Load()
	}
	return cl.Properties.Props.SessionExpiryInterval // as it was restored
}

// put puts a record that is written as JSON.
func (k *keep) put(kind store.Kind, key string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		k.log("not kept on disk", "error", err)
		return
	}
	k.store.Put(kind, key, b)
}

// session keeps a client's session, from its CONNACK on, and again when it is left.
func (k *keep) session(cl *mochi.Client, left int64) {
	p := &cl.Properties
	k.put(store.Session, store.Key(cl.ID, ""), keptSession{Version: p.ProtocolVersion, Expiry: expiry(cl), Left: left, Largest: p.Props.MaximumPacketSize})
}

// begun keeps a session whose client gets CONNACK now. present: it goes on; otherwise it is a new one. One that is to end with the connection has
// nothing on disk from now on, and never will: DISCONNECT cannot make it last (MQTT 5 section 3.14.2.2.2).
func (k *keep) begun(cl *mochi.Client, present bool) {
	if k == nil {
		return
	}
	if !present || !lasts(cl) {
		k.store.Forget(cl.ID)
	}
	if lasts(cl) {
		k.session(cl, 0)
	}
}

// settle waits for the disk before a client is told of its session.
func (k *keep) settle(cl *mochi.Client) {
	if k != nil && lasts(cl) {
		k.store.Sync()
	}
}

// left keeps a session whose connection has ended, and which lasts.
func (k *keep) left(cl *mochi.Client) {
	if k != nil {
		k.session(cl, time.Now().Unix())
	}
}

// forget forgets a client.
func (k *keep) forget(client string) {
	if k != nil {
		k.store.Forget(client)
	}
}

// subscribed keeps subscriptions, before SUBACK.
func (k *keep) subscribed(cl *mochi.Client, filters packets.Subscriptions, codes []byte) {
	if k == nil || !lasts(cl) {
		return
	}
	for i, f := range filters {
		if codes[i] < packets.ErrUnspecifiedError.Code {
			k.put(store.Subscription, store.Key(cl.ID, f.Filter), f)
		}
	}
	k.store.Sync()
}

// unsubscribed forgets subscriptions, before UNSUBACK.
func (k *keep) unsubscribed(cl *mochi.Client, filters packets.Subscriptions) {
	if !k.keeps(cl) {
		return
	}
	for _, f := range filters {
		k.store.Delete(store.Subscription, store.Key(cl.ID, f.Filter))
	}
}

// keeps says whether a client's session is kept. Another may have taken it over.
func (k *keep) keeps(cl *mochi.Client) bool {
	if k == nil {
		return false
	}
	now := k.holder(cl)
	return now != nil && lasts(now)
}

// message keeps what waits for a client's acknowledgement.
func (k *keep) message(cl *mochi.Client, pk *packets.Packet) {
	if !k.keeps(cl) || pk.FixedHeader.Dup { // one that is sent again is there
		return
	}
	k.put(store.Message, messageKey(cl, pk.PacketID), keptOf(pk))
}

// settled forgets it.
func (k *keep) settled(cl *mochi.Client, id uint16) {
	if !k.keeps(cl) {
		return
	}
	k.store.Delete(store.Message, messageKey(cl, id))
}

func messageKey(cl *mochi.Client, id uint16) string {
	return store.Key(cl.ID, strconv.Itoa(int(id)))
}

// retained keeps a retained message, or forgets the one before. What the server says of itself is made anew.
func (k *keep) retained(pk *packets.Packet) {
	switch {
	case k == nil || topic.Reserved(pk.TopicName):
	case len(pk.Payload) == 0:
		k.store.Delete(store.Retained, pk.TopicName)
	default:
		k.put(store.Retained, pk.TopicName, keptOf(pk))
	}
}

// unretained forgets one that has come to its end.
func (k *keep) unretained(topic string) {
	if k != nil {
		k.store.Delete(store.Retained, topic)
	}
}

// full says whether there is no room for more.
func (k *keep) full() bool { return k != nil && k.store.Full() }

// behind says whether something has to be waited for before it is acknowledged.
func (k *keep) behind() bool { return k != nil && k.store.Behind() }

// Received keeps what is known of a client's message of QoS 2; broker.Keeper.
func (k *keep) Received(client string, id uint16, r broker.Received) {
	k.put(store.Received, store.Key(client, strconv.Itoa(int(id))), r)
}

// Released forgets it.
func (k *keep) Released(client string, id uint16) {
	k.store.Delete(store.Received, store.Key(client, strconv.Itoa(int(id))))
}

// Together keeps what do keeps all together, or nothing of it.
func (k *keep) Together(do func()) {
	k.store.Begin()
	defer k.store.End()
	do()
}

// Settled waits for the disk; false: it has ended first, and something may not be there.
func (k *keep) Settled() bool { return k.store.Sync() && !k.store.Closed() }

// close writes what is left.
func (k *keep) close() error {
	if k == nil {
		return nil
	}
	return k.store.Close()
}

// keptMessage is the record of a message, or of the packet of its exchange that comes next.
type keptMessage struct {
	Type            byte                   `json:"type"`
	Version         byte                   `json:"version,omitempty"`
	QoS             byte                   `json:"qos,omitempty"`
	Retain          bool                   `json:"retain,omitempty"`
	ReasonCode      byte                   `json:"code,omitempty"`
	PacketID        uint16                 `json:"id,omitempty"`
	Topic           string                 `json:"topic,omitempty"`
	Payload         []byte                 `json:"payload,omitempty"`
	Origin          string                 `json:"origin,omitempty"`
	Created         int64                  `json:"created,omitempty"`
	Expiry          int64                  `json:"expiry,omitempty"`
	ContentType     string                 `json:"content_type,omitempty"`
	ResponseTopic   string                 `json:"response_topic,omitempty"`
	CorrelationData []byte                 `json:"correlation_data,omitempty"`
	Format          byte                   `json:"format,omitempty"`
	FormatFlag      bool                   `json:"format_flag,omitempty"`
	Identifiers     []int                  `json:"identifiers,omitempty"`
	User            []packets.UserProperty `json:"user,omitempty"`
}

func keptOf(pk *packets.Packet) keptMessage {
	p := &pk.Properties
	return keptMessage{
		Type: pk.FixedHeader.Type, Version: pk.ProtocolVersion, QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain, ReasonCode: pk.ReasonCode, PacketID: pk.PacketID,
		Topic: pk.TopicName, Payload: pk.Payload, Origin: pk.Origin, Created: pk.Created, Expiry: pk.Expiry,
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData, Format: p.PayloadFormat, FormatFlag: p.PayloadFormatFlag,
		Identifiers: p.SubscriptionIdentifier, User: p.User,
	}
}

func (m *keptMessage) packet() packets.Packet {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: m.Type, Qos: m.QoS, Retain: m.Retain}, ProtocolVersion: m.Version, ReasonCode: m.ReasonCode, PacketID: m.PacketID,
		TopicName: m.Topic, Payload: m.Payload, Origin: m.Origin, Created: m.Created, Expiry: m.Expiry,
	}
	pk.Properties = packets.Properties{
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData, PayloadFormat: m.Format, PayloadFormatFlag: m.FormatFlag,
		SubscriptionIdentifier: m.Identifiers, User: m.User,
	}
	return pk
}

// remaining is how long a session lives on without a connection, in seconds; 0: it has ended.
func (s *keptSession) remaining(now time.Time) uint32 {
	if s.Version < 5 || s.Expiry == math.MaxUint32 || s.Left == 0 {
		return max(s.Expiry, 1)
	}
	return uint32(max(0, min(s.Left+int64(s.Expiry)-now.Unix(), int64(s.Expiry))))
}
