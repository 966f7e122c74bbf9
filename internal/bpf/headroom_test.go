package bpf

import (
	"net/url"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// TestHeadroomIsWhatCheckSays: request.Growth, by which `loader check` says for
// which client ids XDP takes the messages of a function, is exactly what the
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
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	fn := &config.Function{Name: "temp", URL: u}
	if got := string(request.Prefix(fn)); got != rigPrefix {
		t.Fatalf("the rig's function begins its requests with %q, this one with %q", rigPrefix, got)
	}
	longest := int(headroom) - request.Growth(fn, "")
	for n, want := range map[int]uint64{longest: 0, longest + 1: 1} {
		r := newRig(t, false)
		r.device(func(d *EproxyDevice) {
			d.SourceLen = uint32(n)
			copy(d.Source[:], strings.Repeat("c", n))
		})
		r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, strings.Repeat("x", 200))))
		if got := r.reason(EproxyHookHOOK_XDP_DEVICE, EproxyReasonREASON_HEADROOM); got != want {
			t.Errorf("client id of %d bytes: refused for want of headroom %d times, want %d; all: %v", n, got, want, r.allReasons())
		}
	}
}
