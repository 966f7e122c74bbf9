package observer

import (
	"strings"
	"testing"
)

// marks are how many of the requests so far were the kubelet's, and had been counted by an activator.
func (r *rig) marks() (probes, proxied uint64) {
	c := r.counts()
	return c.Marked[ObserveObserveMarkMARK_PROBE-1], c.Marked[ObserveObserveMarkMARK_PROXIED-1]
}

// TestMarks: probes, and what an activator has counted, are known by their fields, wherever
// packets end, and are in flight as long as the request is.
func TestMarks(t *testing.T) {
	for _, c := range []struct {
		field           string
		probes, proxied uint64
	}{
		{"User-Agent: kube-probe/1.37", 1, 0},
		{"user-agent: kube-probe/1.37 of any length that there may be", 1, 0},
		{"K-Kubelet-Probe: queue", 1, 0},
		{"K-Proxy-Request: activator", 0, 1},
		{"k-proxy-request: activator", 0, 1},
		{"K-Proxy-Request: activators", 0, 0},
		{"K-Proxy-Request: other", 0, 0},
		{"K-Proxy-Requests: activator", 0, 0},
		{"User-Agent: kube-prober/1", 0, 0},
		{"User-Agent: curl/8", 0, 0},
		{"K-Kubelet-Probe: ", 0, 0},
		{"X: K-Proxy-Request: activator", 0, 0},
		{"K-Proxy-Request: activator\r\nUser-Agent: kube-probe/1", 0, 1}, // the first one counts
	} {
		request := "POST /a HTTP/1.1\r\nHost: a\r\n" + c.field + "\r\nContent-Length: 0\r\n\r\n"
		for _, cut := range []int{0, 20, 30, 35, 50, len(request) - 1} {
			r := newRig(t, false)
			r.open()
			if cut = min(cut, len(request)); cut > 0 {
				r.asks(request[:cut])
			}
			r.asks(request[cut:])
			if probes, proxied := r.marks(); probes != c.probes || proxied != c.proxied {
				t.Errorf("%q cut at %d: %d probes, %d proxied", c.field, cut, probes, proxied)
			}
			f := r.flight()
			if n := uint64(f.Marked[0].Now) + uint64(f.Marked[1].Now); n != c.probes+c.proxied || f.All.Now != 1 {
				t.Errorf("%q: %d of %d in flight", c.field, n, f.All.Now)
			}
			r.answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			f = r.flight()
			if f.Marked[0].Now != 0 || f.Marked[1].Now != 0 || f.All.Now != 0 {
				t.Errorf("%q answered: %+v", c.field, f)
			}
			if f.Marked[0].Integral+f.Marked[1].Integral > f.All.Integral || (c.probes+c.proxied > 0) != (f.Marked[0].Integral+f.Marked[1].Integral > 0) {
				t.Errorf("%q: integrals %+v", c.field, f)
			}
		}
	}
}

// TestMarksEndWithTheirConnection: whatever ends it, nothing with a mark stays in flight, and what
// comes next has none of it.
func TestMarksEndWithTheirConnection(t *testing.T) {
	marked := "GET / HTTP/1.1\r\nK-Proxy-Request: activator\r\n\r\n"
	plain := "GET / HTTP/1.1\r\nA: b\r\n\r\n"
	probe := "GET / HTTP/1.1\r\nUser-Agent: kube-probe/1\r\n\r\n"
	for name, end := range map[string]func(*rig){
		"reset":     func(r *rig) { r.run(true, r.packet(true, r.fromPod, r.toPod, "RA", "")) },
		"malformed": func(r *rig) { r.answers("nonsense\r\n") },
		"depth":     func(r *rig) { r.asks(strings.Repeat(plain, 20)) },
	} {
		r := newRig(t, false)
		r.open()
		r.asks(marked + plain + probe)
		r.answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // to the first
		r.asks(marked)
		if f := r.flight(); f.Marked[0].Now != 1 || f.Marked[1].Now != 1 || f.All.Now != 3 {
			t.Errorf("%s: in flight before: %+v", name, f)
		}
		end(r)
		if f := r.flight(); f.Marked[0].Now != 0 || f.Marked[1].Now != 0 || f.All.Now != 0 {
			t.Errorf("%s: in flight after: %+v", name, f)
		}
		if probes, proxied := r.marks(); probes != 1 || proxied != 2 {
			t.Errorf("%s: %d probes, %d proxied", name, probes, proxied)
		}
	}
}
