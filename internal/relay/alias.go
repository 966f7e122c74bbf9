package relay

import (
	"slices"

	"eproxy/internal/abi"
	"eproxy/internal/mqtt"
)

// topicAliases is the largest topic alias that clients may use (MQTT 5 section 3.3.2.3.4), of those that the broker allows.
const topicAliases = abi.AliasesMax

// aliases are the topics that a client has given aliases, and what the broker knows of that: it never sees a message that
// was taken.
type aliases struct {
	client, broker [topicAliases]string
}

// resolve is the topic of a PUBLISH, whose alias it learns.
func (a *aliases) resolve(p *mqtt.Publish) string {
	switch {
	case p.TopicAlias == 0:
		return string(p.Topic)
	case len(p.Topic) > 0:
		a.client[p.TopicAlias-1] = string(p.Topic)
	}
	return a.client[p.TopicAlias-1]
}

// pass notes that a PUBLISH goes to the broker, and says whether it needs its topic there: it names one by an alias that the
// broker knows for another, or not at all.
func (a *aliases) pass(p *mqtt.Publish, topic string) (bare bool) {
	if p.TopicAlias == 0 {
		return false
	}
	known := &a.broker[p.TopicAlias-1]
	bare = len(p.Topic) == 0 && *known != topic
	*known = topic
	return bare
}

// withTopic is the head of a PUBLISH of MQTT 5 that has only an alias, with its topic.
func withTopic(head []byte, p *mqtt.Publish, topic string) []byte {
	_, _, n, _ := mqtt.ReadHeader(head)
	fields := head[n+2:] // behind the empty topic
	out := append(make([]byte, 0, len(head)+len(topic)+1), head[0])
	out = appendLength(out, p.Length-n+len(topic))
	out = append(out, byte(len(topic)>>8), byte(len(topic)))
	return slices.Concat(out, []byte(topic), fields)
}

// appendLength appends a variable byte integer (MQTT 5 section 1.5.5).
func appendLength(dst []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
