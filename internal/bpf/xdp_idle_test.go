package bpf

import "testing"

// TestXDPIdle: while no pod receives redirects, the XDP program does nothing but
// find that out: nothing is taken, absorbed or counted; afterwards it works.
func TestXDPIdle(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags string
		data  []byte
		verd  uint32 // once a pod receives redirects
	}{
		{"publish", "PA", publish("sensors/a/temp", 1, 7, "x"), xdpRedirect},
		{"bare ack", "A", nil, xdpDrop},
		{"malformed", "PA", []byte{0x36, 1, 0}, xdpPass},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false)
			for _, idle := range []uint32{1, 0} {
				r.put(r.objs.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1, XdpIdle: idle})
				ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(devISS, c.flags, c.data))
				counted := len(r.allReasons())
				if idle == 1 && (ret != xdpPass || counted != 0) {
					t.Errorf("no pod receives redirects: verdict %d, counted %v", ret, r.allReasons())
				}
				if idle == 0 && (ret != c.verd || counted == 0) {
					t.Errorf("some pod receives redirects: verdict %d, want %d, counted %v", ret, c.verd, r.allReasons())
				}
			}
		})
	}
}
