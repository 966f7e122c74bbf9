package mochi

import (
	"testing"

	"eproxy/internal/mqtt/samples"
)

// FuzzSession sends valid packets only, in any order: programs of few
// instructions over few topics, packet identifiers and clients, so that what
// they do to one session meets. Nothing may panic, and no connection may end
// without a reason.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x05\x00\x10\x21\x32\x43\x54\x65\x76\x87\x98\xa9\xba"))
	f.Add([]byte("\x04\x00\x00\x05\x01\x15\x02\x25\x03\x35\x04\x45\x05\x55"))
	f.Add([]byte("\x03\x02\x13\x24\x35\x46\x57\x68\x79\x8a"))
	s := newStage(f, say("ok"), nil, anonymous)
	runs := 0
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) < 2 {
			return
		}
		if runs++; runs%50 == 0 { // what waits for them makes the library slow
			s.forgetAll()
		}
		s.exchange(t, []byte(session(program[0], program[1], program[2:])))
	})
}

// Topics and filters that meet each other; the function's is among them.
var (
	fuzzTopics  = []string{"a", "a/b", "a/b/c", "in/x", "/", "$x/a", "in/\u00e9", "b"}
	fuzzFilters = []string{"a", "#", "+/+", "a/#", "$share/g/a/b", "$share/h/#", "in/+", "/"}
)

// session is a CONNECT, which the first two bytes describe, and a packet for each
// other byte, until one of them would not be valid.
func session(kind, flags byte, program []byte) string {
	version := 3 + kind%3
	all := opening(version, flags, kind>>4)
	for _, b := range program {
		if b == 0xff {
			return all + samples.Packet(0xe0)
		}
		all += step(version, b>>5, b&31)
	}
	return all
}

// opening is CONNECT: clean or not, with a will or without, of one of two clients.
func opening(version, flags, size byte) string {
	set := flags & 2
	if flags&4 != 0 {
		set |= flags & 0x3c
		if set&0x18 == 0x18 {
			set &^= 8
		}
	}
	fields := []string{}
	if version == 5 {
		props := samples.Properties("\x11\x00\x00\x00"+string([]byte{flags >> 7}), "\x21\x00\x02", "\x22\x00"+string([]byte{size}))
		fields = append(fields, props)
	}
	fields = append(fields, samples.String("fuzz"+string('0'+rune(flags&1))))
	if set&4 != 0 {
		if version == 5 {
			fields = append(fields, samples.Properties("\x18\x00\x00\x00"+string([]byte{flags >> 6 & 1})))
		}
		fields = append(fields, samples.String(fuzzTopics[size&7]), samples.String("will"[:size&3]))
	}
	return samples.Connect(version, set, fields...)
}

// step is one packet: what kind of, and with which topic, identifier and options.
func step(version, kind, with byte) string {
	id, props := string([]byte{0, 1 + with&3}), ""
	if version == 5 {
		props = samples.Properties()
	}
	topic := fuzzTopics[with&7]
	switch kind {
	case 0:
		return samples.Packet(0x30|with>>4, samples.String(topic), props, "p"[:with>>3&1])
	case 1:
		return samples.Packet(0x32|with&8, samples.String(topic), id, props, "p")
	case 2:
		return samples.Packet(0x34|with>>4|with&8, samples.String(topic), id, props, "p")
	case 3:
		return samples.Packet(0x82, id, props, samples.String(fuzzFilters[with&7]), string([]byte{with >> 3 % 3}))
	case 4:
		return samples.Packet(0xa2, id, props, samples.String(fuzzFilters[with&7]))
	case 5:
		return samples.Packet([]byte{0x40, 0x50, 0x62, 0x70}[with>>3], id)
	case 6:
		return "\xc0\x00"
	}
	if version == 5 { // an alias with its topic and one without
		alias := samples.Properties("\x23\x00"+string([]byte{1 + with&7}), "\x08"+samples.String("a/r"), "\x02\x00\x00\x00\x01")
		return samples.Packet(0x31, samples.String(topic), alias, "p") + samples.Packet(0x32, samples.String(""), id, alias)
	}
	return samples.Packet(0x31, samples.String(topic))
}
