package bpf

import (
	"net/url"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// TestHeadroomIsWhatCheckSays: request.Growth, by which `loader check` says for
// which senders XDP takes the messages of a function, is exactly what the
// program goes by.
func TestHeadroomIsWhatCheckSays(t *testing.T) {
	spec, err := LoadEproxy()
	if err != nil {
		t.Fatal(err)
	}
	headroom, err := Knob(spec, "knob_headroom")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse("http://t/")
	if err != nil {
		t.Fatal(err)
	}
	fn := &config.Function{Name: "temp", URL: u}
	const user = "dev"
	for from := range 2 {
		fn.CloudEvents.FromPublisher = from == 1
		most := (int(headroom) - request.Growth(fn, "", user)) / (1 + from) // bytes of the client id
		for n, want := range map[int]uint64{most: 0, most + 1: 1} {
			if n < 0 {
				continue
			}
			r := newRig(t, false)
			r.function(fn)
			r.sender(strings.Repeat("c", n), user)
			r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, strings.Repeat("x", 200))))
			if got := r.reason(EproxyHookHOOK_XDP_DEVICE, EproxyReasonREASON_HEADROOM); got != want {
				t.Errorf("client id of %d bytes: refused for want of headroom %d times, want %d; all: %v", n, got, want, r.allReasons())
			}
		}
	}
}
