//go:build cgo

package native

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"eproxy/internal/field"
	"eproxy/internal/mqtt"
)

// scanned are properties as one of the parsers has read them.
type scanned struct {
	expiry      uint32
	utf8        bool
	alias       uint16
	contentType string
	users       [][2]string
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// takeText is the text at the front of b, and what follows.
func takeText(b []byte) (string, []byte) {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return string(b[2:n]), b[n:]
}

// referenceProperties reads properties by the Go parser; false: they are not valid, or of kinds that the kernel path has no header for.
func referenceProperties(b []byte) (s scanned, ok bool) {
	list := append(binary.AppendUvarint(nil, uint64(len(b))), b...)
	packet := append([]byte{0, 1, 'a'}, list...)
	packet = append(binary.AppendUvarint([]byte{0x30}, uint64(len(packet))), packet...)
	var p mqtt.Publish
	if mqtt.ReadPublish(packet, 5, &p) != nil {
		return s, false
	}
	ok = true
	mqtt.EachProperty(list, func(id byte, whole []byte) {
		switch id {
		case 1:
			s.utf8 = whole[1] == 1
		case 2:
			s.expiry = binary.BigEndian.Uint32(whole[1:])
		case 3:
			s.contentType, _ = takeText(whole[1:])
		case 0x23:
			s.alias = binary.BigEndian.Uint16(whole[1:])
			ok = ok && s.alias <= AliasesMax
		case 0x26:
			name, rest := takeText(whole[1:])
			value, _ := takeText(rest)
			s.users = append(s.users, [2]string{name, value})
		default:
			ok = false
		}
	})
	return s, ok && len(s.users) <= UsersMax
}

// compareProperties runs both parsers. The kernel's must take what the reference takes, and where it takes more that must be
// texts that its writer does not write.
func compareProperties(t *testing.T, b []byte) {
	t.Helper()
	if len(b) > PropertiesMax {
		return // mqtt_publish has refused them
	}
	var q Properties
	reason := ScanProperties(b, &q)
	want, ok := referenceProperties(b)
	if reason != ReasonTaken {
		if ok {
			t.Fatalf("%x: reason %d, reference %+v", b, reason, want)
		}
		return
	}
	got := scanned{expiry: uint32(q.expiry), utf8: q.utf8 == 1, alias: uint16(q.alias), contentType: string(b[q._type.off : q._type.off+q._type.len])}
	plain := Plain([]byte(got.contentType))
	for i := range int(q.users) {
		name, value := string(b[q.name[i].off:q.name[i].off+q.name[i].len]), string(b[q.value[i].off:q.value[i].off+q.value[i].len])
		got.users = append(got.users, [2]string{name, value})
		plain = plain && Plain([]byte(name)) && Plain([]byte(value))
	}
	if !ok {
		if plain {
			t.Fatalf("%x: taken as %+v, the reference refuses it", b, got)
		}
		return
	}
	if got.expiry != want.expiry || got.utf8 != want.utf8 || got.alias != want.alias || got.contentType != want.contentType || len(got.users) != len(want.users) {
		t.Fatalf("%x: %+v, reference %+v", b, got, want)
	}
	for i := range got.users {
		if got.users[i] != want.users[i] {
			t.Fatalf("%x: %+v, reference %+v", b, got, want)
		}
	}
}

// propertySeeds are one property of every kind, and many.
func propertySeeds() [][]byte {
	kinds := [][]byte{{1, 1}, {1, 0}, {1, 2}, {2, 0, 0, 0, 0}, {2, 0, 0, 1, 0}, appendText([]byte{3}, "text/csv"), appendText([]byte{3}, ""),
		appendText([]byte{8}, "a/b"), appendText([]byte{9}, "x\x00"), {0x0b, 1}, {0x23, 0, 1}, {0x23, 0, 16}, {0x23, 0, 17}, {0x23, 0, 0}, {0x23, 1, 1}, {0x26, 0, 1, 'a', 0, 1, 'b'}, {0x26, 0, 0, 0, 0},
		{0x11, 0, 0, 0, 1}, {0x7f}, {0x80, 1}, appendText([]byte{3}, "\xc3\x28"), appendText([]byte{3}, "\u00e4")}
	seeds := append([][]byte(nil), kinds...)
	r := rand.New(rand.NewPCG(5, 16))
	for range 40 {
		var b []byte
		for range r.IntN(9) {
			b = append(b, kinds[r.IntN(len(kinds))]...)
		}
		seeds = append(seeds, b)
	}
	return seeds
}

// FuzzProperties compares properties_scan with the reference parser.
func FuzzProperties(f *testing.F) {
	for _, b := range propertySeeds() {
		f.Add(b)
	}
	f.Fuzz(compareProperties)
}

// TestDamagedProperties does the same over random damage to properties.
func TestDamagedProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 2))
	seeds := propertySeeds()
	for range 300_000 {
		b := append([]byte(nil), seeds[r.IntN(len(seeds))]...)
		for range r.IntN(4) {
			if len(b) == 0 {
				break
			}
			switch i := r.IntN(len(b)); r.IntN(3) {
			case 0:
				b[i] = byte(r.Uint32())
			case 1:
				b = b[:i]
			case 2:
				b = append(b[:i], append([]byte{byte(r.IntN(4))}, b[i:]...)...)
			}
		}
		compareProperties(t, b)
	}
}

// TestTexts: which characters may be in the names and values that the kernel path writes.
func TestTexts(t *testing.T) {
	for b := range 256 {
		c := byte(b)
		if got, want := Token(c), c < 0x80 && field.ValidName(string([]byte{c})); got != want {
			t.Errorf("%#02x in a name: %v", c, got)
		}
		for at := range 20 {
			s := []byte("01234567 9abcdef~!xy")
			s[at] = c
			if got, want := Plain(s), c >= ' ' && c < 0x7f; got != want {
				t.Errorf("%#02x at %d of a value: %v", c, at, got)
			}
			if !Plain(s[:at]) {
				t.Errorf("what stands behind %q counts", s[:at])
			}
		}
	}
}
