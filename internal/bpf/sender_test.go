package bpf

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// TestSenderSameBytes: who sent a message stands in the same bytes in the requests of both paths, and
// what is too long is left to the fallback, by name.
func TestSenderSameBytes(t *testing.T) {
	const id36 = "123e4567-e89b-12d3-a456-426614174000"
	for _, c := range []struct {
		client, user string
		fits         [2]bool // by from_publisher
	}{
		{"dev-1", "", [2]bool{true, true}},
		{"dev-1", "dev", [2]bool{true, true}},
		{"", "dev", [2]bool{true, true}},
		{"", "", [2]bool{true, true}},
		{"x\r\nX-Mqtt-Username: root", "\r\n\r\nGET / HTTP/1.1", [2]bool{true, true}},
		{"100%\"", "\u00fc b\x00", [2]bool{true, true}},
		{id36, "tenant-7/gateway", [2]bool{true, true}},
		{strings.Repeat("c", 128), "", [2]bool{true, false}},
		{strings.Repeat("c", 128), strings.Repeat("u", 21), [2]bool{true, false}},
		{strings.Repeat("c", 128), strings.Repeat("u", 22), [2]bool{false, false}},
		{strings.Repeat("c", 74), "", [2]bool{true, true}},
		{strings.Repeat("c", 75), "", [2]bool{true, false}},
		{strings.Repeat("\u00fc", 33), "", [2]bool{false, false}},
	} {
		for from := range 2 {
			for _, hook := range []string{"xdp", "tc"} {
				t.Run(fmt.Sprintf("%.8q/%.8q/%d/%s", c.client, c.user, from, hook), func(t *testing.T) {
					sender(t, c.client, c.user, from, hook, c.fits[from])
				})
			}
		}
	}
}

// function puts a function in place of the rig's.
func (r *rig) function(fn *config.Function) {
	v := EproxyFunction{PodCount: 1, FromPublisher: uint32(b2u(fn.CloudEvents.FromPublisher))}
	v.PrefixLen = uint32(copy(v.Prefix[:], request.Prefix(fn)))
	r.put(r.objs.Functions, uint32(0), &v)
}

// sender says who the device is.
func (r *rig) sender(client, user string) {
	r.device(func(d *EproxyDevice) {
		for i := range d.SenderLen {
			b := request.Sender(nil, client, user, i == 1)
			copy(d.Sender[:], b)
			d.SenderLen[i] = uint8(min(len(b), len(d.Sender)+1))
		}
	})
}

func sender(t *testing.T, client, user string, from int, hook string, fits bool) {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	fn := &config.Function{URL: u, CloudEvents: config.CloudEvents{FromPublisher: from == 1}}
	r := newRig(t, false)
	r.function(fn)
	r.sender(client, user)
	prog, h, pass, taken := r.objs.TcDeviceIn, EproxyHookHOOK_TC_DEVICE_IN, uint32(tcOK), uint32(tcRedirect)
	if hook == "xdp" {
		prog, h, pass, taken = r.objs.XdpDevice, EproxyHookHOOK_XDP_DEVICE, xdpPass, xdpRedirect
	}
	m := &request.Message{ClientID: client, Username: user, Topic: "sensors/a/temp", QoS: 1, Payload: []byte("21.5")}
	want := request.Build(nil, fn, m, "0123456789ab00000001")
	pub := publish(m.Topic, 1, 7, string(m.Payload))
	ret, out := r.run(prog, r.fromDevice(devISS, "PA", pub))
	switch {
	case !fits:
		if ret != pass || r.reason(h, EproxyReasonREASON_TOO_LARGE) != 1 {
			t.Errorf("verdict %d, counters %v; want it left to the fallback", ret, r.allReasons())
		}
	case hook == "xdp" && len(want) > len(pub)+216:
		if ret != pass || r.reason(h, EproxyReasonREASON_HEADROOM) != 1 {
			t.Errorf("verdict %d, counters %v; want it left to TC", ret, r.allReasons())
		}
	case ret != taken:
		t.Fatalf("verdict %d, counters %v", ret, r.allReasons())
	default:
		if got := checkSegment(t, out).Payload; !bytes.Equal(got, want) {
			t.Errorf("request\n%q\nwant\n%q", got, want)
		}
	}
}
