package mochi

import (
	"time"

	"eproxy/internal/mqtt/samples"
)

// dialogues are those of TestDialogues.
func dialogues() []dialogue {
	var all []dialogue
	for _, part := range [][]dialogue{sessionDialogues(), willDialogues(), retainDialogues(), subscriptionDialogues(), deliveryDialogues(), identifierDialogues(), propertyDialogues(), limitDialogues()} {
		all = append(all, part...)
	}
	return all
}

// sessionDialogues are about what outlives a connection.
func sessionDialogues() []dialogue {
	return []dialogue{
		{"MQTT-3.1.2-4 MQTT-3.1.2-6 MQTT-3.2.2-2 MQTT-3.2.2-3", "a clean start ends the session before", []line{
			send("c", hello5("c", kept, lasting), ok5), send("c", sub5("t", 1), granted5(1)),
			back("c", hello5("c", kept, lasting), present5), back("c", hello5("c", clean, lasting), ok5),
			send("p", hello5("p", clean, ""), ok5), send("p", pub5(0x32, "t", 1, "", "x"), ack(0x40, 1)),
		}},
		{"MQTT-3.1.2-5 MQTT-3.1.2-23 MQTT-4.1.0-1 MQTT-4.5.0-1 MQTT-3.1.3-2 MQTT-3.1.2-7/3.1.1", "a session goes on, with what came meanwhile", []line{
			send("c", hello5("c", clean, lasting), ok5), send("c", sub5("t", 1), granted5(1)), over("c", bye),
			send("p", hello5("p", clean, ""), ok5), send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), send("p", pub5(0x34, "t", 2, "", "2"), ack(0x50, 2)), send("p", ack(0x62, 2), ack(0x70, 2)),
			back("c", hello5("c", kept, lasting), present5, pub5(0x32, "t", 0, "", "1"), pub5(0x32, "t", 0, "", "2")),
		}},
		{"MQTT-3.1.2-4/3.1.1 MQTT-3.1.2-5/3.1.1 MQTT-3.2.2-2/3.1.1 MQTT-3.2.2-3/3.1.1 MQTT-4.1.0-1/3.1.1 MQTT-4.5.0-1/3.1.1 MQTT-3.1.3-2/3.1.1", "the same in MQTT 3.1.1", []line{
			send("c", hello4("c", kept), ok4), send("c", sub4("t", 1), granted4(1)), over("c", bye),
			send("p", hello4("p", clean), ok4), send("p", pub4(0x32, "t", 1, "1"), ack(0x40, 1)),
			back("c", hello4("c", kept), present4, pub4(0x32, "t", 0, "1")),
		}},
		{"MQTT-3.1.2-6/3.1.1 MQTT-3.2.2-1/3.1.1 MQTT-3.1.4-3/3.1.1 MQTT-4.1.0-2/3.1.1", "a clean session is a new one, and ends with its connection", []line{
			send("c", hello4("c", kept), ok4), send("c", sub4("t", 1), granted4(1)),
			back("c", hello4("c", clean), ok4), send("c", sub4("u", 1), granted4(1)), over("c", bye), back("c", hello4("c", kept), ok4),
			send("p", hello4("p", clean), ok4), send("p", pub4(0x32, "t", 1, "1"), ack(0x40, 1)), send("p", pub4(0x32, "u", 2, "1"), ack(0x40, 2)),
		}},
		{"MQTT-4.4.0-1 MQTT-3.3.1-1 MQTT-4.3.2-3 MQTT-4.3.3-3 MQTT-4.3.2-1 MQTT-4.3.2-2 MQTT-4.3.3-1 MQTT-4.3.3-2 MQTT-2.2.1-4 MQTT-4.4.0-1/3.1.1 MQTT-3.3.1-1/3.1.1 MQTT-2.3.1-4/3.1.1 MQTT-4.3.2-1/3.1.1", "what was not acknowledged comes again, with DUP", []line{
			send("c", hello5("c", clean, lasting), ok5), send("c", sub5("t", 2), granted5(2)),
			send("p", hello5("p", clean, ""), ok5), send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), gets("c", pub5(0x32, "t", 0, "", "1")),
			send("p", pub5(0x34, "t", 2, "", "2"), ack(0x50, 2)), send("p", ack(0x62, 2), ack(0x70, 2)), gets("c", pub5(0x34, "t", 0, "", "2")),
			back("c", hello5("c", kept, lasting), present5, pub5(0x3a, "t", 0, "", "1"), pub5(0x3c, "t", 0, "", "2")),
		}},
		{"MQTT-4.3.3-4 MQTT-4.3.3-5 MQTT-4.3.3-6 MQTT-4.3.3-1/3.1.1 MQTT-2.2.1-5 MQTT-2.3.1-6/3.1.1", "behind PUBREC the release comes again, not the message", []line{
			send("c", hello5("c", clean, lasting), ok5), send("c", sub5("t", 2), granted5(2)),
			send("p", hello5("p", clean, ""), ok5), send("p", pub5(0x34, "t", 2, "", "2"), ack(0x50, 2)), send("p", ack(0x62, 2), ack(0x70, 2)), gets("c", pub5(0x34, "t", 0, "", "2")),
			answersTo("c", 0, 0x50, "", ack(0x62, 0)),
			back("c", hello5("c", kept, lasting), present5, ack(0x62, 0)), answersTo("c", 0, 0x70, ""),
			back("c", hello5("c", kept, lasting), present5),
		}},
		{"MQTT-4.4.0-2", "what a client refuses does not come again", []line{
			send("c", hello5("c", clean, lasting), ok5), send("c", sub5("t", 2), granted5(2)), send("p", hello5("p", clean, ""), ok5),
			send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), gets("c", pub5(0x32, "t", 0, "", "1")), answersTo("c", 0, 0x40, "\x97"),
			send("p", pub5(0x34, "t", 2, "", "2"), ack(0x50, 2)), gets("c", pub5(0x34, "t", 0, "", "2")), answersTo("c", 1, 0x50, "\x97"),
			send("c", "\xc0\x00", "\xd0\x00"), back("c", hello5("c", kept, lasting), present5),
		}},
		{"MQTT-4.1.0-2", "a session without an interval ends with its connection", []line{
			send("c", hello5("c", clean, ""), ok5), send("c", sub5("t", 1), granted5(1)), over("c", bye), back("c", hello5("c", kept, ""), ok5),
		}},
		{"MQTT-3.2.2-3 MQTT-4.1.0-2", "a session without an interval is not taken over", []line{
			send("old", hello5("c", kept, ""), ok5), send("old", sub5("t", 2), granted5(2)), send("p", hello5("p", clean, ""), ok5),
			send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), gets("old", pub5(0x32, "t", 0, "", "1")), send("old", pub5(0x34, "u", 7, "", "x"), ack(0x50, 7)),
			send("new", hello5("c", kept, ""), ok5), over("old", "", "\xe0\x01\x8e"), send("new", ack(0x62, 7), ack(0x70, 7, 0x92)),
			send("p", pub5(0x32, "t", 1, "", "2"), ack(0x40, 1)),
		}},
		{"MQTT-3.2.2-3/3.1.1", "a clean session is not taken over", []line{
			send("s", hello4("s", clean), ok4), send("s", sub4("u", 0), granted4(0)),
			send("old", hello4("c", clean), ok4), send("old", pub4(0x34, "u", 7, "x"), ack(0x50, 7)), gets("s", pub4(0x30, "u", 0, "x")),
			send("new", hello4("c", kept), ok4), over("old", ""), send("new", pub4(0x3c, "u", 7, "x"), ack(0x50, 7)), gets("s", pub4(0x30, "u", 0, "x")),
		}},
		{"MQTT-3.1.4-3 MQTT-3.1.4-2/3.1.1", "another connection takes the session over", []line{
			send("old", hello5("c", clean, lasting), ok5), send("new", hello5("c", kept, lasting), present5), over("old", "", "\xe0\x01\x8e"),
		}},
		{"MQTT-3.1.2-26 MQTT-3.3.2-7 MQTT-4.4.0-1", "what comes again has its topic, also for a client that takes aliases", []line{
			send("c", hello5("c", clean, lasting+"\x22\x00\x0a"), ok5), send("c", sub5("t", 1), granted5(1)), send("p", hello5("p", clean, ""), ok5),
			send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), gets("c", pub5(0x32, "t", 0, "", "1")),
			send("p", pub5(0x32, "t", 2, "", "2"), ack(0x40, 2)), gets("c", pub5(0x32, "t", 0, "", "2")),
			back("c", hello5("c", kept, lasting+"\x22\x00\x0a"), present5, pub5(0x3a, "t", 0, "", "1"), pub5(0x3a, "t", 0, "", "2")),
		}},
		{"MQTT-3.3.2-7", "aliases end with their connection", []line{
			send("c", hello5("c", clean, lasting), ok5), send("c", pub5(0x30, "t", 0, "\x23\x00\x01", "x")), send("c", "\xc0\x00", "\xd0\x00"),
			back("c", hello5("c", kept, lasting), present5), over("c", pub5(0x30, "", 0, "\x23\x00\x01", "x"), "\xe0\x01\x82"),
		}},
	}
}

// willDialogues are about wills.
func willDialogues() []dialogue {
	will := func(flags byte, topic string) string {
		return hello5("w", clean|4|flags, "", "\x00", str(topic), str("gone"))
	}
	will4 := func(flags byte, topic string) string { return hello4("w", clean|4|flags, str(topic), str("gone")) }
	listener := []line{send("s", hello5("s", clean, ""), ok5), send("s", sub5("will", 2), granted5(2))}
	with := func(more ...line) []line { return append(append([]line{}, listener...), more...) }
	return []dialogue{
		{"MQTT-3.1.2-7 MQTT-3.1.2-8 MQTT-3.1.2-14 MQTT-3.1.2-8/3.1.1 MQTT-3.1.2-16/3.1.1", "a will is published when the connection breaks, and not kept",
			with(send("w", will(8, "will"), ok5), cut("w"), gets("s", pub5(0x32, "will", 0, "", "gone")),
				send("late", hello5("late", clean, ""), ok5), send("late", sub5("will", 0), granted5(0)))},
		{"MQTT-3.1.2-15 MQTT-3.1.2-17/3.1.1", "a retained will is kept",
			with(send("w", will(0x20, "will"), ok5), cut("w"), gets("s", pub5(0x30, "will", 0, "", "gone")),
				send("late", hello5("late", clean, ""), ok5), send("late", sub5("will", 0), granted5(0), pub5(0x31, "will", 0, "", "gone")))},
		{"MQTT-3.1.2-10 MQTT-3.14.4-3", "DISCONNECT removes the will", with(send("w", will(0, "will"), ok5), over("w", bye))},
		{"MQTT-3.1.2-10/3.1.1 MQTT-3.14.4-3/3.1.1", "DISCONNECT removes the will, MQTT 3.1.1", with(send("w", will4(0, "will"), ok4), over("w", bye))},
		{"MQTT 5 section 3.14.2.1", "DISCONNECT with will message publishes it", with(send("w", will(0, "will"), ok5), over("w", "\xe0\x01\x04"), gets("s", pub5(0x30, "will", 0, "", "gone")))},
		{"MQTT-3.1.2-12/3.1.1", "without a will none is published", with(send("w", hello4("w", clean), ok4), cut("w"))},
		{"MQTT-3.1.3-9", "who comes back before the delay has no will published", with(
			send("w", hello5("w", clean|4, lasting, samples.Properties("\x18\x00\x00\x00\x01"), str("will"), str("gone")), ok5), cut("w"),
			back("w", hello5("w", kept, lasting), present5), pause(1500*time.Millisecond))},
		{"MQTT 5 section 3.1.3.2.2", "a will is published when its delay has passed", with(
			send("w", hello5("w", clean|4, lasting, samples.Properties("\x18\x00\x00\x00\x01"), str("will"), str("gone")), ok5), cut("w"),
			gets("s", pub5(0x30, "will", 0, "", "gone")))},
		{"MQTT-3.1.3-10", "properties of a will, in their order", with(
			send("w", hello5("w", clean|4, "", samples.Properties("\x01\x01", "\x03"+str("text/plain"), "\x26"+str("k")+str("2"), "\x26"+str("k")+str("1")), str("will"), str("gone")), ok5), cut("w"),
			gets("s", pub5(0x30, "will", 0, "\x01\x01\x03"+str("text/plain")+"\x26"+str("k")+str("2")+"\x26"+str("k")+str("1"), "gone")))},
	}
}

// retainDialogues are about retained messages.
func retainDialogues() []dialogue {
	keep := func(payload string) line { return send("p", pub5(0x33, "r", 1, "", payload), ack(0x40, 1)) }
	begin := func(more ...line) []line {
		return append([]line{send("p", hello5("p", clean, ""), ok5), send("s", hello5("s", clean, ""), ok5)}, more...)
	}
	return []dialogue{
		{"MQTT-3.3.1-5 MQTT-3.3.1-9 MQTT-3.3.1-5/3.1.1 MQTT-3.3.1-6/3.1.1 MQTT-3.3.1-8/3.1.1", "the last retained message comes with a subscription",
			begin(keep("1"), keep("2"), send("s", sub5("r", 1), granted5(1), pub5(0x33, "r", 0, "", "2")))},
		{"MQTT-3.3.1-7/3.1.1", "one of QoS 0 takes the place of another", begin(keep("1"), send("p", pub5(0x31, "r", 0, "", "2")), send("p", "\xc0\x00", "\xd0\x00"),
			send("s", sub5("r", 1), granted5(1), pub5(0x31, "r", 0, "", "2")))},
		{"MQTT-3.3.1-6 MQTT-3.3.1-7 MQTT-3.3.1-10/3.1.1 MQTT-3.3.1-11/3.1.1", "an empty one removes it, and is a message to who is there",
			begin(keep("1"), send("s", sub5("r", 0, ""), granted5(0), pub5(0x31, "r", 0, "", "1")), keep(""), gets("s", pub5(0x30, "r", 0, "", "")),
				send("late", hello5("late", clean, ""), ok5), send("late", sub5("r", 0), granted5(0)))},
		{"MQTT-3.3.1-8 MQTT-3.3.1-12/3.1.1", "a message without RETAIN changes nothing of it",
			begin(keep("1"), send("p", pub5(0x32, "r", 1, "", "2"), ack(0x40, 1)), send("p", pub5(0x32, "r", 1, "", ""), ack(0x40, 1)), send("s", sub5("r", 0), granted5(0), pub5(0x31, "r", 0, "", "1")))},
		{"MQTT-3.3.1-10", "retain handling 1: with a new subscription only",
			begin(keep("1"), send("s", sub5("r", 0x10), granted5(0), pub5(0x31, "r", 0, "", "1")), send("s", sub5("r", 0x10), granted5(0)))},
		{"MQTT-3.3.1-11", "retain handling 2: never", begin(keep("1"), send("s", sub5("r", 0x20), granted5(0)))},
		{"MQTT-3.8.4-4 MQTT-3.8.4-3 MQTT-3.8.4-3/3.1.1", "retain handling 0: also when a subscription is replaced, which has the new QoS then",
			begin(keep("1"), send("s", sub5("r", 0), granted5(0), pub5(0x31, "r", 0, "", "1")), send("s", sub5("r", 1), granted5(1), pub5(0x33, "r", 0, "", "1")),
				send("p", pub5(0x32, "r", 1, "", "2"), ack(0x40, 1)), gets("s", pub5(0x32, "r", 0, "", "2")))},
		{"MQTT-3.3.1-12 MQTT-3.3.1-9/3.1.1", "an established subscription gets no RETAIN", begin(send("s", sub5("r", 0), granted5(0)), keep("1"), gets("s", pub5(0x30, "r", 0, "", "1")))},
		{"MQTT-3.3.1-13", "retain as published", begin(send("s", sub5("r", 8), granted5(0)), keep("1"), gets("s", pub5(0x31, "r", 0, "", "1")),
			send("p", pub5(0x32, "r", 1, "", "2"), ack(0x40, 1)), gets("s", pub5(0x30, "r", 0, "", "2")))},
		{"MQTT-3.1.2-7/3.1.1", "retained messages outlive their publisher's session", begin(keep("1"), over("p", bye), send("s", sub5("r", 0), granted5(0), pub5(0x31, "r", 0, "", "1")))},
	}
}

// subscriptionDialogues are about subscriptions.
func subscriptionDialogues() []dialogue {
	begin := func(more ...line) []line {
		return append([]line{send("p", hello5("p", clean, ""), ok5), send("s", hello5("s", clean, lasting), ok5)}, more...)
	}
	qos1 := func(id byte, topic, payload string) line {
		return send("p", pub5(0x32, topic, id, "", payload), ack(0x40, id))
	}
	two := pkt(0x82, "\x00\x01\x00", str("a"), "\x02", str("b/#"), "\x00", str("c"), "\x01")
	return []dialogue{
		{"MQTT-3.8.4-2 MQTT-3.8.4-5 MQTT-3.8.4-6 MQTT-3.8.4-7 MQTT-3.9.3-1 MQTT-3.9.3-2 MQTT-2.2.1-6 MQTT-3.8.4-2/3.1.1 MQTT-3.8.4-4/3.1.1 MQTT-3.8.4-5/3.1.1 MQTT-3.9.3-1/3.1.1 MQTT-3.9.3-2/3.1.1 MQTT-2.3.1-7/3.1.1", "three filters, three answers, in their order",
			begin(send("s", two, granted5(2, 0, 1)), qos1(1, "c", "x"), gets("s", pub5(0x32, "c", 0, "", "x")), qos1(2, "b/d", "y"), gets("s", pub5(0x30, "b/d", 0, "", "y")))},
		{"MQTT-3.8.4-8 MQTT-3.8.4-6/3.1.1 MQTT-3.3.5-1/3.1.1 MQTT-3.3.4-2", "the QoS is the lesser of both",
			begin(send("s", sub5("t", 1), granted5(1)), send("p", pub5(0x34, "t", 1, "", "2"), ack(0x50, 1)), gets("s", pub5(0x32, "t", 0, "", "2")), send("p", pub5(0x30, "t", 0, "", "0")), gets("s", pub5(0x30, "t", 0, "", "0")))},
		{"MQTT-3.3.4-4", "overlapping subscriptions: one copy, with all identifiers", begin(
			send("s", sub5("t", 0, "\x0b\x01"), granted5(0)), send("s", sub5("+", 0, "\x0b\x02"), granted5(0)), qos1(1, "t", "x"), gets("s", pub5(0x30, "t", 0, "\x0b\x01\x0b\x02", "x")))},
		{"MQTT-3.10.4-1 MQTT-3.10.4-2 MQTT-3.10.4-4 MQTT-3.10.4-6 MQTT-3.11.3-1 MQTT-3.11.3-2 MQTT-3.10.4-1/3.1.1 MQTT-3.10.4-2/3.1.1 MQTT-3.10.4-6/3.1.1", "UNSUBSCRIBE ends those of exactly these filters",
			begin(send("s", two, granted5(2, 0, 1)), send("s", pkt(0xa2, "\x00\x02\x00", str("a"), str("b/+"), str("c")), pkt(0xb0, "\x00\x02\x00", "\x00\x11\x00")),
				qos1(1, "a", "x"), qos1(2, "c", "x"), qos1(3, "b/d", "y"), gets("s", pub5(0x30, "b/d", 0, "", "y")))},
		{"MQTT-3.10.4-3 MQTT-3.10.4-3/3.1.1", "what has begun is completed behind UNSUBSCRIBE", begin(send("s", sub5("t", 2), granted5(2)), send("p", pub5(0x34, "t", 1, "", "x"), ack(0x50, 1)), gets("s", pub5(0x34, "t", 0, "", "x")),
			send("s", pkt(0xa2, "\x00\x02\x00", str("t")), pkt(0xb0, "\x00\x02\x00\x00")), answersTo("s", 0, 0x50, "", ack(0x62, 0)), answersTo("s", 0, 0x70, ""))},
		{"MQTT-4.7.2-1 MQTT-4.7.2-1/3.1.1 MQTT-3.3.2-3 MQTT-3.3.2-3/3.1.1", "wildcards do not match a first $", begin(send("s", pkt(0x82, "\x00\x01\x00", str("#"), "\x00", str("+/a"), "\x00"), granted5(0, 0)), qos1(1, "$x/a", "x"), qos1(2, "x/a", "y"), gets("s", pub5(0x30, "x/a", 0, "", "y")))},
		{"MQTT-4.7.3-4 MQTT-4.7.3-4/3.1.1", "names are compared as they are", begin(send("s", sub5("/a/\xc3\xa9", 0), granted5(0)), qos1(1, "a/\xc3\xa9", "x"), qos1(2, "/a//\xc3\xa9", "x"), qos1(3, "/a/e\xcc\x81", "x"), qos1(4, "/A/\xc3\xa9", "x"),
			qos1(5, "/a/\xc3\xa9", "y"), gets("s", pub5(0x30, "/a/\xc3\xa9", 0, "", "y")))},
		{"MQTT-1.5.4-3 MQTT-1.5.3-3/3.1.1", "a byte order mark is a character", begin(send("s", sub5("\xef\xbb\xbft", 0), granted5(0)), qos1(1, "t", "x"), qos1(2, "\xef\xbb\xbft", "y"), gets("s", pub5(0x30, "\xef\xbb\xbft", 0, "", "y")))},
		{"MQTT-4.7.3-3 MQTT-4.7.3-3/3.1.1 MQTT-4.7.1-2 MQTT-4.7.1-3/3.1.1", "a long name, and + at every level", begin(send("s", sub5("+/+", 0), granted5(0)), qos1(1, long(30_000)+"/"+long(30_000), "x"), gets("s", pub5(0x30, long(30_000)+"/"+long(30_000), 0, "", "x")), qos1(2, "/", "y"), gets("s", pub5(0x30, "/", 0, "", "y")))},
		{"MQTT-4.8.2-3 MQTT-4.8.2-4 MQTT-4.8.2-5", "who left a shared subscription has it delivered when it is back, nobody else",
			begin(send("s", sub5("$share/g/t", 1), granted5(1)), qos1(1, "t", "1"), gets("s", pub5(0x32, "t", 0, "", "1")), cut("s"),
				send("other", hello5("other", clean, ""), ok5), send("other", sub5("$share/g/t", 1), granted5(1)),
				back("s", hello5("s", kept, lasting), present5, pub5(0x3a, "t", 0, "", "1")), cut("s"), pause(10*time.Millisecond))},
		{"MQTT-4.8.2-6", "what a member refuses goes to no other", begin(send("s", sub5("$share/g/t", 1), granted5(1)), qos1(1, "t", "1"), gets("s", pub5(0x32, "t", 0, "", "1")),
			send("other", hello5("other", clean, ""), ok5), send("other", sub5("$share/g/t", 1), granted5(1)), answersTo("s", 0, 0x40, "\x97"))},
	}
}

// deliveryDialogues are about QoS and order.
func deliveryDialogues() []dialogue {
	begin := func(more ...line) []line {
		return append([]line{send("p", hello5("p", clean, lasting), ok5), send("s", hello5("s", clean, lasting), ok5), send("s", sub5("t", 2), granted5(2))}, more...)
	}
	return []dialogue{
		{"MQTT-4.6.0-5 MQTT-4.6.0-6 MQTT-4.6.0-5/3.1.1 MQTT-4.6.0-6/3.1.1", "messages stay in their order", begin(
			send("p", pub5(0x32, "t", 1, "", "1")+pub5(0x32, "t", 2, "", "2")+pub5(0x32, "t", 3, "", "3"), ack(0x40, 1), ack(0x40, 2), ack(0x40, 3)),
			gets("s", pub5(0x32, "t", 0, "", "1"), pub5(0x32, "t", 0, "", "2"), pub5(0x32, "t", 0, "", "3")))},
		{"MQTT-4.6.0-1 MQTT-4.6.0-1/3.1.1", "also when they come again", begin(
			send("p", pub5(0x32, "t", 1, "", "1")+pub5(0x32, "t", 2, "", "2")+pub5(0x32, "t", 3, "", "3"), ack(0x40, 1), ack(0x40, 2), ack(0x40, 3)),
			gets("s", pub5(0x32, "t", 0, "", "1"), pub5(0x32, "t", 0, "", "2"), pub5(0x32, "t", 0, "", "3")),
			back("s", hello5("s", kept, lasting), present5, pub5(0x3a, "t", 0, "", "1"), pub5(0x3a, "t", 0, "", "2"), pub5(0x3a, "t", 0, "", "3")))},
		{"MQTT-3.3.1-3 MQTT-3.3.1-3/3.1.1 MQTT-3.3.1-2 MQTT-3.3.1-2/3.1.1 MQTT-4.3.1-1 MQTT-4.3.1-1/3.1.1", "DUP of a publisher is not passed on", begin(
			send("p", pub5(0x3a, "t", 1, "", "1"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, "", "1")), send("p", pub5(0x30, "t", 0, "", "0")), gets("s", pub5(0x30, "t", 0, "", "0")))},
		{"MQTT-4.3.2-5 MQTT-4.3.2-4 MQTT-4.3.2-2/3.1.1", "behind PUBACK the same identifier is a new message", begin(
			send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, "", "1")), send("p", pub5(0x3a, "t", 1, "", "1"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, "", "1")))},
		{"MQTT-4.3.3-8 MQTT-4.3.3-10 MQTT-4.3.3-11 MQTT-4.3.3-12 MQTT-4.3.3-2/3.1.1", "a message of QoS 2 is delivered once until it is released", begin(
			send("p", pub5(0x34, "t", 1, "", "1"), ack(0x50, 1)), gets("s", pub5(0x34, "t", 0, "", "1")), send("p", pub5(0x3c, "t", 1, "", "1"), ack(0x50, 1)),
			back("p", hello5("p", kept, lasting), present5), send("p", pub5(0x3c, "t", 1, "", "1"), ack(0x50, 1)), send("p", ack(0x62, 1), ack(0x70, 1)),
			send("p", pub5(0x34, "t", 1, "", "2"), ack(0x50, 1)), gets("s", pub5(0x34, "t", 0, "", "2")))},
		{"MQTT-4.9.0-3 MQTT-3.3.4-10", "everything else is answered while a client's quota is used up", []line{
			send("s", hello5("s", clean, "\x21\x00\x01"), ok5), send("s", sub5("t", 1), granted5(1)), send("p", hello5("p", clean, ""), ok5),
			send("p", pub5(0x32, "t", 1, "", "1")+pub5(0x32, "t", 2, "", "2"), ack(0x40, 1), ack(0x40, 2)), gets("s", pub5(0x32, "t", 0, "", "1")),
			send("s", "\xc0\x00", "\xd0\x00"), send("s", sub5("u", 0), granted5(0)), answersTo("s", 0, 0x40, "", pub5(0x32, "t", 0, "", "2")),
		}},
		{"MQTT-4.9.0-1 MQTT-4.9.0-2 MQTT-3.3.4-9", "no more than the client's receive maximum, QoS 2 until PUBCOMP", []line{
			send("s", hello5("s", clean, "\x21\x00\x01"), ok5), send("s", sub5("t", 2), granted5(2)), send("p", hello5("p", clean, ""), ok5),
			send("p", pub5(0x34, "t", 1, "", "1"), ack(0x50, 1)), gets("s", pub5(0x34, "t", 0, "", "1")), send("p", pub5(0x34, "t", 2, "", "2"), ack(0x50, 2)),
			answersTo("s", 0, 0x50, "", ack(0x62, 0)), send("s", "\xc0\x00", "\xd0\x00"), answersTo("s", 0, 0x70, "", pub5(0x34, "t", 0, "", "2")),
		}},
	}
}

// identifierDialogues: a client counts its packets from 1, and so does the server; neither has to do with the other.
func identifierDialogues() []dialogue {
	begin := func(more ...line) []line { // s has a message with the identifier 1, which it has not acknowledged
		return append([]line{send("s", hello5("s", clean, lasting), ok5), send("s", sub5("t", 2), granted5(2)), send("p", hello5("p", clean, ""), ok5), send("p", sub5("u", 2), granted5(2)),
			send("p", pub5(0x32, "t", 1, "", "1"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, "", "1"))}, more...)
	}
	again := back("s", hello5("s", kept, lasting), present5, pub5(0x3a, "t", 0, "", "1"))
	return []dialogue{
		{"MQTT-2.2.1-3", "a subscription", begin(send("s", sub5("v", 1), granted5(1)), send("s", pkt(0xa2, "\x00\x01\x00", str("v")), pkt(0xb0, "\x00\x01\x00\x00")), again)},
		{"MQTT-2.2.1-3", "a message of QoS 1", begin(send("s", pub5(0x32, "u", 1, "", "x"), ack(0x40, 1)), gets("p", pub5(0x32, "u", 0, "", "x")), again)},
		{"MQTT-2.2.1-3", "a message of QoS 1 to a function", begin(send("s", pub5(0x32, "in/a", 1, "", "x"), ack(0x40, 1)), again)},
		{"MQTT-2.2.1-3", "a message of QoS 2, sent twice", begin(send("s", pub5(0x34, "u", 1, "", "x"), ack(0x50, 1)), gets("p", pub5(0x34, "u", 0, "", "x")), send("s", pub5(0x3c, "u", 1, "", "x"), ack(0x50, 1)),
			again, send("s", pub5(0x3c, "u", 1, "", "x"), ack(0x50, 1)), send("s", ack(0x62, 1), ack(0x70, 1)), send("s", pub5(0x34, "u", 1, "", "y"), ack(0x50, 1)), gets("p", pub5(0x34, "u", 0, "", "y")),
			answersTo("s", 0, 0x40, ""), send("s", ack(0x62, 1), ack(0x70, 1)))},
		{"MQTT-2.2.1-3", "a message of QoS 2 to a function", begin(send("s", pub5(0x34, "in/a", 1, "", "x"), ack(0x50, 1)), send("s", pub5(0x3c, "in/a", 1, "", "x"), ack(0x50, 1)), send("s", ack(0x62, 1), ack(0x70, 1)), again)},
		{"MQTT-2.2.1-3", "a release of nothing", begin(send("s", ack(0x62, 1), ack(0x70, 1, 0x92)), again)},
	}
}

// propertyDialogues are about what is passed on with a message.
func propertyDialogues() []dialogue {
	all := "\x01\x01" + "\x03" + str("text/plain") + "\x08" + str("answer") + "\x09" + str("id\x00") + "\x26" + str("k") + str("2") + "\x26" + str("a") + str("1") + "\x26" + str("k") + str("2")
	begin := func(connect string, more ...line) []line {
		return append([]line{send("p", hello5("p", clean, ""), ok5), send("s", hello5("s", clean, connect), ok5), send("s", sub5("t", 1), granted5(1))}, more...)
	}
	return []dialogue{
		{"MQTT-3.3.2-4 MQTT-3.3.2-15 MQTT-3.3.2-16 MQTT-3.3.2-17 MQTT-3.3.2-18 MQTT-3.3.2-20", "properties are passed on as they are", begin("",
			send("p", pub5(0x32, "t", 1, all, "x"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, all, "x")))},
		{"MQTT-4.3.3-7", "a message of QoS 2 that was sent does not expire", begin("",
			send("s", sub5("t", 2), granted5(2)), send("p", pub5(0x34, "t", 1, "\x02\x00\x00\x00\x01", "x"), ack(0x50, 1)), gets("s", pub5(0x34, "t", 0, "\x02\x00\x00\x00\x01", "x")), pause(3*time.Second), answersTo("s", 0, 0x50, "", ack(0x62, 0)))},
		{"MQTT-3.3.2-6", "the expiry interval is passed on", begin("", send("p", pub5(0x32, "t", 1, "\x02\x00\x00\x00\x3c", "x"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, "\x02\x00\x00\x00\x3c", "x")))},
		{"MQTT-3.1.2-26 MQTT-3.1.2-27 MQTT-3.3.2-11 MQTT-3.3.2-12", "a publisher's alias is its own", begin("",
			send("p", pub5(0x32, "t", 1, "\x23\x00\x10", "x"), ack(0x40, 1)), gets("s", pub5(0x32, "t", 0, "", "x")), send("p", pub5(0x32, "", 2, "\x23\x00\x10", "y"), ack(0x40, 2)), gets("s", pub5(0x32, "t", 0, "", "y")))},
	}
}

// limitDialogues are about what a client allows.
func limitDialogues() []dialogue {
	return []dialogue{
		{"MQTT-3.1.3-5", "a client identifier may be long", []line{
			send("a", hello5(long(40000), clean, ""), ok5), send("a", "\xc0\x00", "\xd0\x00"),
			send("b", hello4("b"+long(40000), clean), ok4), send("b", "\xc0\x00", "\xd0\x00"),
		}},
		{"MQTT-3.1.2-24 MQTT-3.1.2-25", "what is too large for a client is left out", []line{
			send("s", hello5("s", clean, "\x27\x00\x00\x00\x40"), ok5), send("s", sub5("t", 1), granted5(1)), send("p", hello5("p", clean, ""), ok5),
			send("p", pub5(0x32, "t", 1, "", long(100)), ack(0x40, 1)), send("p", pub5(0x32, "t", 2, "", "x"), ack(0x40, 2)), gets("s", pub5(0x32, "t", 0, "", "x")),
		}},
		{"MQTT-3.14.4-1 MQTT-3.14.4-2 MQTT-4.13.1-1 MQTT-4.13.2-1", "the last packet of a connection is DISCONNECT", []line{
			send("p", hello5("p", clean, ""), ok5), over("p", pub5(0x30, "t", 0, "\x23\x00\x00", "x")+"\xc0\x00", "\xe0\x01\x94"),
		}},
		{"MQTT-3.1.4-5 MQTT-3.2.0-1 MQTT-3.2.0-2 MQTT-3.1.4-4/3.1.1 MQTT-3.2.0-1/3.1.1", "what follows CONNECT at once is answered behind CONNACK", []line{
			send("a", hello5("a", clean, "")+"\xc0\x00", ok5, "\xd0\x00"), send("b", hello4("b", clean)+"\xc0\x00", ok4, "\xd0\x00"),
		}},
		{"MQTT-3.1.3-5", "client identifiers of 1 and 23 characters", []line{
			send("a", hello5("abcdefghijklmnopqrstuvw", clean, ""), ok5), send("b", hello5("xyzABCDEFGHIJKLMNOPQRST", clean, ""), ok5), send("c", hello5("UVWXYZ0123456789", clean, ""), ok5), send("d", hello4("7", clean), ok4),
		}},
		{"MQTT-3.1.4-6 MQTT-3.2.2-6 MQTT-3.2.2-7 MQTT-3.2.2-8 MQTT-3.14.0-1", "behind a refused CONNECT nothing is processed", []line{
			send("s", hello5("s", clean, ""), ok5), send("s", sub5("t", 1), granted5(1)),
			over("p", hello5("p", clean, "\x15"+str("x"))+pub5(0x32, "t", 1, "", "x"), "\x20\x03\x00\x8c\x00"),
		}},
		{"MQTT-3.1.4-5/3.1.1 MQTT-3.2.2-4/3.1.1 MQTT-3.2.2-5/3.1.1 MQTT-3.1.3-9/3.1.1", "the same in MQTT 3.1.1", []line{
			send("s", hello5("s", clean, ""), ok5), send("s", sub5("t", 1), granted5(1)),
			over("p", hello4("", kept)+pub4(0x32, "t", 1, "x"), "\x20\x02\x00\x02"),
		}},
	}
}
