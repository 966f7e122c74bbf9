//go:build cgo

package native

// #include "calls.h"
import "C"

import "unsafe"

// framing follows MQTT framing.
type framing struct{ w Framing }

// GoesOn is framing_goes_on.
func GoesOn(first byte) bool { return C.call_goes_on(u8(first)) != 0 }

// Step follows MQTT framing over b.
func (w *framing) Step(b []byte) {
	if len(b) > 0 {
		C.call_framing(&w.w, (*u8)(unsafe.Pointer(&b[0])), u32(len(b)))
	}
}

// AtBoundary is framing_at_boundary.
func (w *framing) AtBoundary() bool { return C.call_at_boundary(&w.w) != 0 }

// Bad reports framing that is not MQTT.
func (w *framing) Bad() bool { return w.w.bad != 0 }
