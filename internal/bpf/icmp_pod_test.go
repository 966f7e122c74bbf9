package bpf

import (
	"testing"
)

// eachPodFamily runs f on the side of a slot with one request in flight, of n bytes.
func eachPodFamily(t *testing.T, f func(t *testing.T, r *rig, s side, n uint32)) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "ipv4", true: "ipv6"}[ipv6], func(t *testing.T) {
			r := newRig(t, ipv6)
			_, n := r.take(t)
			f(t, r, sides[1], n)
		})
	}
}

func (r *rig) readPod() EproxyPod {
	r.t.Helper()
	var p EproxyPod
	if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// tooLong is an error that says that the request in flight was too long for the path.
func (r *rig) tooLong(seq uint32) icmp {
	e := r.tooBig()
	e.seq, e.length = seq, 1400
	return e
}

// mssOf is what an MTU leaves of a segment.
func (r *rig) mssOf(mtu uint32) uint32 { return mtu - map[bool]uint32{false: 40, true: 60}[r.ipv6] }

// TestPodICMPPositions: what a pod's path says of a request gets the number at which the slot's
// socket stands; what is not in flight passes as it is, and nothing is believed of it.
func TestPodICMPPositions(t *testing.T) {
	eachPodFamily(t, func(t *testing.T, r *rig, s side, n uint32) {
		for _, at := range []uint32{0, 1, n - 1, n} {
			e := r.tooBig()
			e.seq = s.snd + at
			want := e
			want.seq = s.snd
			e.passes(t, r, s, want, EproxyReasonREASON_ICMP_TRANSLATED)
		}
		for _, at := range []uint32{n + 1, ^uint32(0), 1 << 31, n + 1<<20, ^uint32(0) - 1<<20} {
			e := r.tooLong(s.snd + at)
			e.passes(t, r, s, e, EproxyReasonREASON_ICMP_STRAY)
		}
		if p := r.readPod(); p.PathMss != 0 {
			t.Errorf("segments of %d bytes from now on", p.PathMss)
		}
	})
}

// TestPodPathMTU: an error about a request says how long segments may be, and has the
// request sent again; the same error again tells nothing new.
func TestPodPathMTU(t *testing.T) {
	eachPodFamily(t, func(t *testing.T, r *rig, s side, n uint32) {
		e := r.tooLong(s.snd)
		e.passes(t, r, s, e, EproxyReasonREASON_PATH_MTU, EproxyReasonREASON_REQUEST_RESENT, EproxyReasonREASON_ICMP_TRANSLATED)
		if p := r.readPod(); p.PathMss != r.mssOf(1280) || p.PathMs == 0 {
			t.Errorf("segments of %d bytes from now on", p.PathMss)
		}
		e.passes(t, r, s, e, EproxyReasonREASON_ICMP_TRANSLATED)
		if !r.ipv6 {
			e.mtu = 1000
			e.passes(t, r, s, e, EproxyReasonREASON_PATH_MTU, EproxyReasonREASON_REQUEST_RESENT, EproxyReasonREASON_ICMP_TRANSLATED)
			e.mtu = 1200 // of another path, or of before
			e.passes(t, r, s, e, EproxyReasonREASON_ICMP_TRANSLATED)
			if p := r.readPod(); p.PathMss != 960 {
				t.Errorf("segments of %d bytes from now on", p.PathMss)
			}
		}
	})
}

// TestPodPathMTUIsNotBelieved: what RFC 5927 has no TCP believe.
func TestPodPathMTUIsNotBelieved(t *testing.T) {
	eachPodFamily(t, func(t *testing.T, r *rig, s side, n uint32) {
		translated := EproxyReasonREASON_ICMP_TRANSLATED
		for name, e := range map[string]icmp{
			"about what was not sent":        func() icmp { return r.tooLong(s.snd + n) }(),
			"packet shorter than its MTU":    func() icmp { e := r.tooLong(s.snd); e.length = 1280; return e }(),
			"MTU not less than what is sent": func() icmp { e := r.tooLong(s.snd); e.mtu, e.length = 1520, 1521; return e }(),
		} {
			want := e
			want.seq = s.snd
			reasons := []EproxyReason{translated}
			if e.mtu > 1280 { // a loss all the same
				reasons = append(reasons, EproxyReasonREASON_REQUEST_RESENT)
			}
			e.passes(t, r, s, want, reasons...)
			if p := r.readPod(); p.PathMss != 0 {
				t.Errorf("%s: segments of %d bytes from now on", name, p.PathMss)
			}
		}
		damaged := r.tooLong(s.snd)
		damaged.frame = func(b []byte) []byte { b[14+r.head()+6] ^= 1; return b } // the MTU
		damaged.passes(t, r, s, damaged, translated)
		if p := r.readPod(); p.PathMss != 0 {
			t.Errorf("damaged: segments of %d bytes from now on", p.PathMss)
		}
		least := r.tooLong(s.snd)
		least.mtu = 68
		least.passes(t, r, s, least, EproxyReasonREASON_PATH_MTU, EproxyReasonREASON_REQUEST_RESENT, translated)
		if p := r.readPod(); p.PathMss != r.mssOf(map[bool]uint32{false: 552, true: 1280}[r.ipv6]) {
			t.Errorf("least: segments of %d bytes from now on", p.PathMss)
		}
	})
}

// TestRequestsFollowThePathMTU: what is too long for a pod's path goes to the fallback,
// for as long as the error is believed.
func TestRequestsFollowThePathMTU(t *testing.T) {
	for _, c := range []struct {
		name  string
		age   uint32 // of the error, milliseconds
		taken bool
	}{{"now", 0, false}, {"9 minutes later", 540000, false}, {"10 minutes later", 600001, true}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false)
			r.pod(func(p *EproxyPod) { p.PathMss, p.PathMs = 200, uint32(monotonic()/1e6)-c.age })
			ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x")))
			if (ret == xdpRedirect) != c.taken || !c.taken && r.reason(EproxyHookHOOK_XDP_DEVICE, EproxyReasonREASON_TOO_LARGE) != 1 {
				t.Errorf("verdict %d, %v", ret, r.allReasons())
			}
		})
	}
}
