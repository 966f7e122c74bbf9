package mqttref

import (
	"errors"
	"testing"
)

func TestParsePublish(t *testing.T) {
	for _, c := range []struct {
		name    string
		b       string
		version byte
		err     error
	}{
		{"QoS 0", "\x30\x05\x00\x01apl", 4, nil},
		{"QoS 1", "\x32\x05\x00\x01a\x00\x01", 4, nil},
		{"packet id 0", "\x32\x05\x00\x01a\x00\x00", 4, ErrMalformed},
		{"QoS 3", "\x36\x05\x00\x01a\x00\x01", 4, ErrMalformed},
		{"DUP with QoS 0", "\x38\x03\x00\x01a", 4, ErrMalformed},
		{"short", "\x30\x05\x00\x01ap", 4, ErrShort},
		{"empty topic", "\x30\x02\x00\x00", 4, ErrMalformed},
		{"empty topic without alias", "\x30\x03\x00\x00\x00", 5, ErrMalformed},
		{"alias", "\x30\x06\x00\x00\x03\x23\x00\x01", 5, nil},
		{"wildcard", "\x30\x03\x00\x01#", 4, ErrMalformed},
		{"surrogate", "\x30\x05\x00\x03\xed\xa0\x80", 4, ErrMalformed},
		{"topic longer than packet", "\x30\x03\x00\x02a", 4, ErrMalformed},
		{"length in more bytes than needed", "\x30\x83\x00\x00\x01a", 4, nil},
		{"the same in MQTT 5", "\x30\x84\x00\x00\x01a\x00", 5, ErrMalformed},
		{"length in five bytes", "\x30\x80\x80\x80\x80\x01", 4, ErrMalformed},
		{"subscribe", "\x82\x00", 4, ErrNotPublish},
	} {
		if _, err := ParsePublish([]byte(c.b), c.version); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
}

func TestFramingFindsBoundaries(t *testing.T) {
	var w Framing
	if _, err := w.Write([]byte("\xc0\x00\x30\x03\x00\x01a\x30")); err != nil || w.AtBoundary() {
		t.Fatal(err, w.AtBoundary())
	}
	if _, err := w.Write([]byte("\x80\x01")); err != nil || w.AtBoundary() {
		t.Fatal(err, w.AtBoundary())
	}
	if _, err := w.Write(make([]byte, 128)); err != nil || !w.AtBoundary() {
		t.Fatal(err, w.AtBoundary())
	}
	if n, err := w.Write([]byte("\x30\xff\xff\xff\xff\x01")); !errors.Is(err, ErrMalformed) || n != 4 {
		t.Fatal(n, err)
	}
}
