package mqtt

import (
	"errors"
	"testing"
)

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
	if n, err := w.Write([]byte("\x30\xff\xff\xff\xff\x01")); !errors.Is(err, errLengthLong) || n != 4 {
		t.Fatal(n, err)
	}
}
