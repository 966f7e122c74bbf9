package mochi

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// rule is a sentence of a specification, and an exchange that shows it. What is malformed has its own samples
// (TestEveryPacketKindAtServer).
type rule struct {
	clause  string // numbered as in the version that it names
	name    string
	version byte   // of CONNECT, which goes before; 0: none does
	sent    string // behind it
	want    string // what the server sends behind CONNACK, or from the beginning
	ends    bool   // the connection ends then; else a PINGREQ is answered next
}

// Packets of these rules.
var (
	str = samples.String
	pkt = samples.Packet
)

// props5 are the properties that a packet of MQTT 5 has, and others have not.
func props5(version byte, p ...string) string {
	if version == 5 {
		return samples.Properties(p...)
	}
	return ""
}

// pub is a PUBLISH; id 0 for QoS 0.
func pub(version, qos byte, topic string, id byte, payload string) string {
	fields := []string{str(topic)}
	if qos > 0 {
		fields = append(fields, string([]byte{0, id}))
	}
	return pkt(0x30|qos<<1, append(fields, props5(version), payload)...)
}

// rules are those that hold alike for these versions, and then each version's own.
func rules() []rule {
	var all []rule
	for _, v := range []byte{3, 4, 5} {
		ack := func(first byte, id byte) string { return pkt(first, string([]byte{0, id})) }
		add := func(clause, name, sent, want string, ends bool) {
			all = append(all, rule{clause, fmt.Sprintf("%s, version %d", name, v), v, sent, want, ends})
		}
		subscribe := func(filter string, qos byte) string {
			return pkt(0x82, "\x00\x01", props5(v), str(filter), string([]byte{qos}))
		}
		suback := func(code byte) string { return pkt(0x90, "\x00\x01", props5(v), string([]byte{code})) }
		add("MQTT-3.3.4-1", "QoS 0 has no answer", pub(v, 0, "t", 0, "x"), "", false)
		add("MQTT-3.3.4-1", "QoS 1 is acknowledged", pub(v, 1, "t", 7, "x"), ack(0x40, 7), false)
		add("MQTT-3.3.4-1", "QoS 2 is acknowledged twice", pub(v, 2, "t", 7, "x")+ack(0x62, 7), ack(0x50, 7)+ack(0x70, 7), false)
		add("MQTT-3.3.4-1", "QoS 1 to a function", pub(v, 1, "in/t", 7, "x"), ack(0x40, 7), false)
		add("MQTT-3.3.4-1", "QoS 2 to a function", pub(v, 2, "in/t", 7, "x"), ack(0x50, 7), false)
		add("MQTT-3.8.4-1", "SUBSCRIBE is acknowledged", subscribe("a/+", 2), suback(2), false)
		add("MQTT-3.8.4-6", "a message comes with the QoS of the subscription", subscribe("t", 0)+pub(v, 1, "t", 7, "x"), suback(0)+ack(0x40, 7)+pub(v, 0, "t", 0, "x"), false)
		add("MQTT-4.7.2-1", "# matches no topic that begins with $", subscribe("#", 0)+pub(v, 1, "$t", 7, "x"), suback(0)+ack(0x40, 7), false)
		add("MQTT-3.3.1-7", "an empty retained message is not kept", pkt(0x31, str("r"), props5(v))+subscribe("r", 0), suback(0), false)
		add("MQTT-3.12.4-1", "PINGREQ is answered", "\xc0\x00", "\xd0\x00", false)
		add("MQTT-3.14.4-1", "DISCONNECT ends the connection", "\xe0\x00", "", true)
		reserved := map[byte]string{1: ack(0x40, 7), 2: ack(0x50, 7)}
		second := "" // [MQTT-4.13.1-1]
		if v == 5 {
			reserved = map[byte]string{1: pkt(0x40, "\x00\x07\x87\x00"), 2: pkt(0x50, "\x00\x07\x87\x00")}
			second = "\xe0\x82"
		}
		for qos, want := range reserved {
			add("MQTT 5 section 4.7.2", fmt.Sprintf("QoS %d to $SYS is acknowledged and dropped", qos), pub(v, qos, "$SYS/broker/connection/b/state", 7, "1"), want, false)
		}
		add("MQTT 5 section 4.7.2", "QoS 0 to $SYS is dropped", pub(v, 0, "$SYS/broker/connection/b/state", 0, "1"), "", false)
		add("MQTT-3.1.0-2", "a second CONNECT ends the connection", samples.Hello(v), second, true)
		if v < 5 {
			add("MQTT-3.10.4-4 of MQTT 3.1.1", "UNSUBSCRIBE is acknowledged", pkt(0xa2, "\x00\x01", str("none")), ack(0xb0, 1), false)
		}
		if v > 3 {
			add("MQTT-3.8.3-1", "two filters have two answers", pkt(0x82, "\x00\x01", props5(v), str("a"), "\x00", str("b"), "\x01"), pkt(0x90, "\x00\x01", props5(v), "\x00\x01"), false)
		}
	}
	return append(append(all, connects()...), rules5()...)
}

// connects are answers to CONNECT.
func connects() []rule {
	return []rule{
		{"MQTT-3.1.2-2 of MQTT 3.1.1", "unacceptable level", 0, pkt(0x10, str("MQTT"), "\x07\x02\x00\x3c", str("c")), "\x20\x02\x00\x01", true},
		{"MQTT 3.1 section 3.1", "level of another name", 0, pkt(0x10, str("MQIsdp"), "\x04\x02\x00\x3c", str("c")), "\x20\x02\x00\x01", true},
		{"MQTT-3.1.3-8 of MQTT 3.1.1", "empty client id, session kept", 0, samples.Connect(4, 0, str("")), "\x20\x02\x00\x02", true},
		{"MQTT 3.1 section 3.1", "empty client id", 0, samples.Connect(3, 2, str("")), "\x20\x02\x00\x02", true},
		{"MQTT-3.1.3-7 of MQTT 3.1.1", "empty client id, clean session", 0, samples.Connect(4, 2, str("")), "\x20\x02\x00\x00", false},
		{"MQTT-3.1.2-21 of MQTT 3.1.1", "empty password", 0, samples.Connect(4, 0xc2, str("c"), str("u"), str("")), "\x20\x02\x00\x00", false},
		{"MQTT 3.1 section 3.1", "empty password", 0, samples.Connect(3, 0xc2, str("c"), str("u"), str("")), "\x20\x02\x00\x00", false},
		{"MQTT-3.1.2-3 of MQTT 3.1.1", "reserved flag: closed without an answer", 0, samples.Connect(4, 3, str("c")), "", true},
		{"MQTT-3.1.0-1", "no CONNECT: closed without an answer", 0, "\xc0\x00", "", true},
		{"bridge of mosquitto", "bridge bit of 3.1.1", 0, samples.Connect(0x84, 2, str("b")), "\x20\x02\x00\x00", false},
		{"bridge of mosquitto", "bridge bit of 3.1", 0, samples.Connect(0x83, 2, str("b")), "\x20\x02\x00\x00", false},
		{"bridge of mosquitto", "will to $SYS", 0, samples.Connect(0x84, 0x26, str("b"), str("$SYS/broker/connection/b/state"), str("0")), "\x20\x02\x00\x00", false},
		{"MQTT-3.1.2-2", "level 6 is not MQTT 5's reason code", 0, pkt(0x10, str("MQTT"), "\x06\x02\x00\x3c\x00", str("c")), "\x20\x02\x00\x01", true},
		{"MQTT-4.12.0-1", "authentication method", 0, samples.Connect(5, 2, samples.Properties("\x15"+str("x")), str("c")), "\x20\x03\x00\x8c\x00", true},
	}
}

// rules5 are those of MQTT 5 alone. A DISCONNECT is compared up to its reason code.
func rules5() []rule {
	publish := func(qos byte, topic, properties string) string {
		id := ""
		if qos > 0 {
			id = "\x00\x01"
		}
		return pkt(0x30|qos<<1, str(topic), id, samples.Properties(properties), "x")
	}
	return []rule{
		{"MQTT-3.2.2-15", "packet larger than the maximum", 5, "\x30\x81\x80\x04", "\xe0\x95", true},
		{"MQTT-3.3.2-8", "topic alias 0", 5, publish(0, "t", "\x23\x00\x00"), "\xe0\x94", true},
		{"MQTT-3.3.2-9", "topic alias beyond the maximum", 5, publish(0, "t", "\x23\x01\x00"), "\xe0\x94", true},
		{"MQTT 5 section 3.3.2.3.4", "topic alias without its topic", 5, publish(0, "", "\x23\x00\x01"), "\xe0\x82", true},
		{"MQTT-3.3.2-7", "topic behind an alias", 5, publish(1, "t", "\x23\x00\x01") + publish(1, "", "\x23\x00\x01"), "\x40\x02\x00\x01\x40\x02\x00\x01", false},
		{"MQTT-3.3.4-6", "subscription identifier of a client", 5, publish(0, "t", "\x0b\x01"), "\xe0\x82", true},
		{"MQTT-3.10.4-5", "UNSUBSCRIBE has a reason code for each", 5, pkt(0xa2, "\x00\x01\x00", str("none")), pkt(0xb0, "\x00\x01\x00\x11"), false},
		{"MQTT-3.6.2-1", "PUBREL of nothing", 5, pkt(0x62, "\x00\x09"), pkt(0x70, "\x00\x09\x92\x00"), false},
		{"MQTT-3.8.3-4", "no local on a shared subscription", 5, pkt(0x82, "\x00\x01\x00", str("$share/g/t"), "\x04"), "\xe0\x82", true},
		{"MQTT-3.8.3-3", "no local", 5, pkt(0x82, "\x00\x01\x00", str("t"), "\x04") + pub(5, 1, "t", 7, "x"), pkt(0x90, "\x00\x01\x00\x00") + pkt(0x40, "\x00\x07"), false},
		{"MQTT-3.3.4-3", "subscription identifier", 5, pkt(0x82, "\x00\x01\x02\x0b\x05", str("t"), "\x00") + pub(5, 1, "t", 7, "x"),
			pkt(0x90, "\x00\x01\x00\x00") + pkt(0x40, "\x00\x07") + pkt(0x30, str("t"), samples.Properties("\x0b\x05"), "x"), false},
		{"MQTT-3.3.2-19", "properties come through", 5, pkt(0x82, "\x00\x01\x00", str("t"), "\x00") + publish(0, "t", "\x01\x01\x03"+str("text/plain")+"\x26"+str("k")+str("v")),
			pkt(0x90, "\x00\x01\x00\x00") + pkt(0x30, str("t"), samples.Properties("\x01\x01", "\x03"+str("text/plain"), "\x26"+str("k")+str("v")), "x"), false},
		{"MQTT-4.12.0-7", "AUTH without a method", 5, "\xf0\x00", "\xe0\x82", true},
		{"MQTT 5 section 3.14.2.2.2", "session expiry raised from 0", 5, pkt(0xe0, "\x00", samples.Properties("\x11\x00\x00\x00\x01")), "\xe0\x82", true},
	}
}

// TestConformance: each rule holds at the server. An acknowledgement without a reason code says success.
func TestConformance(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for _, r := range rules() {
		t.Run(r.clause+": "+r.name, func(t *testing.T) {
			c := s.dial()
			if r.version != 0 {
				write(t, c, []byte(samples.Hello(r.version))...)
				packet(t, c)
			}
			want := answers([]byte(r.want))
			if r.ends {
				write(t, c, []byte(r.sent)...)
				same(t, answers(readAll(t, c)), want)
				return
			}
			write(t, c, []byte(r.sent)...)
			// Answers to one client may overtake each other; that of PINGREQ is asked for when they are here.
			got := make([][]byte, 0, len(want))
			for range want {
				got = append(got, packet(t, c))
			}
			write(t, c, 0xc0, 0)
			if p := packet(t, c); !bytes.Equal(p, []byte{0xd0, 0}) {
				t.Errorf("got % x besides", p)
			}
			same(t, got, want)
		})
	}
}

// same compares what a server sent with what it should have, each packet once, in any order.
func same(t *testing.T, got, want [][]byte) {
	t.Helper()
	left := map[string]int{}
	for _, p := range want {
		left[short(p)]++
	}
	for _, p := range got {
		left[short(p)]--
	}
	for p, n := range left {
		if n != 0 {
			t.Errorf("got % x, want % x: differs in % x", got, want, p)
			return
		}
	}
}

// short is a packet without what may be there or not: properties of CONNACK, DISCONNECT and acknowledgements, a reason code
// of success.
func short(p []byte) string {
	switch {
	case p[0] == 0xe0 && len(p) == 2:
		return string(p)
	case p[0] == 0xe0: // the length has one byte or two
		return string([]byte{0xe0, reasonBehindLength(p)})
	case p[0] == 0x20 && len(p) > 5: // properties of CONNACK
		return string(p[:4])
	case p[0]>>4 >= 4 && p[0]>>4 <= 7 && len(p) > 4:
		return string(append([]byte{p[0]}, p[2:5]...))
	case p[0]>>4 >= 4 && p[0]>>4 <= 7:
		return string(append([]byte{p[0]}, p[2], p[3], 0))
	}
	return string(p)
}

func reasonBehindLength(p []byte) byte {
	i := 1
	for ; p[i]&0x80 != 0; i++ {
	}
	return p[i+1]
}

// TestTakeoverAndShutdownByVersion: a client of MQTT 5 hears why its connection ends, one of an earlier version is sent no DISCONNECT
// [MQTT-3.1.4-3], whoever takes its session over and whatever else ends it.
func TestTakeoverAndShutdownByVersion(t *testing.T) {
	ends := func(c net.Conn, version byte, when string, code byte) {
		t.Helper()
		got := answers(readAll(t, c))
		switch {
		case version < 5 && len(got) > 0:
			t.Errorf("version %d, %s: got % x, want the connection closed", version, when, got)
		case version == 5 && (len(got) != 1 || short(got[0]) != string([]byte{0xe0, code})):
			t.Errorf("version %d, %s: got % x, want DISCONNECT with %#x", version, when, got, code)
		}
	}
	for _, old := range []byte{3, 4, 5} {
		for _, heir := range []byte{3, 4, 5} {
			s := newStage(t, say("ok"), nil, anonymous)
			first, second := s.dial(), s.dial()
			write(t, first, []byte(samples.Hello(old))...)
			packet(t, first)
			write(t, second, []byte(samples.Hello(heir))...)
			packet(t, second)
			ends(first, old, "taken over", 0x8e)
			go s.server.Close()
			ends(second, heir, "shutdown", 0x8b)
		}
	}
}

// TestConnackSaysWhatIsAllowed [MQTT-3.2.2-15]: maximum packet size and receive maximum, and the client identifier that the server has chosen
// [MQTT-3.1.3-7]; a session that goes on is said to do so [MQTT-3.2.2-2].
func TestConnackSaysWhatIsAllowed(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c := s.dial()
	write(t, c, []byte(samples.Connect(5, 2, samples.Properties(), str("")))...)
	ack := packet(t, c)
	size := samples.MaxPacket
	for what, property := range map[string]string{
		"maximum packet size": string([]byte{0x27, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}),
		"receive maximum":     "\x21\x04\x00", "assigned client identifier": "\x12\x00",
	} {
		if !bytes.Contains(ack[5:], []byte(property)) {
			t.Errorf("no %s in % x", what, ack)
		}
	}
	for i, clean := range []byte{0, 0, 2, 0} {
		c := s.dial()
		write(t, c, []byte(samples.Connect(4, clean, str("kept"))+"\xe0\x00")...)
		present := map[int]byte{1: 1}[i] // the first one is new, clean sessions leave nothing
		if got, want := readAll(t, c), []byte{0x20, 2, present, 0}; !bytes.Equal(got, want) {
			t.Errorf("connection %d: % x, want % x", i, got, want)
		}
	}
}

// TestReceiveMaximumIsKept [MQTT-3.3.4-9]: a client that has more messages of QoS 2 under way than the server takes is disconnected with 0x93.
func TestReceiveMaximumIsKept(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c := s.dial()
	write(t, c, []byte(samples.Hello(5))...)
	packet(t, c)
	var all []byte
	for i := range 1025 {
		all = append(all, pkt(0x34, str("t"), string([]byte{byte((i + 1) >> 8), byte(i + 1)}), "\x00", "x")...)
	}
	go func() { _, _ = c.Write(all) }()
	got := answers(readAll(t, c))
	if last := got[len(got)-1]; short(last) != "\xe0\x93" {
		t.Errorf("%d answers, the last one % x, want DISCONNECT with 0x93", len(got), last)
	}
}
