package bpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
)

// statuses are the pod's counters by HTTP status.
func (r *rig) statuses(counter uint32) map[int]int {
	r.t.Helper()
	var per []EproxyPodStats
	if err := r.objs.PodCounters.Lookup(counter, &per); err != nil {
		r.t.Fatal(err)
	}
	out := map[int]int{}
	for _, p := range per {
		for i, n := range p.Answered {
			if n > 0 {
				out[200+i] += int(n)
			}
		}
	}
	return out
}

// TestStatusIsCounted: a response is counted under its status and its pod's
// counter, whole, in pieces, or behind another one in its segment.
func TestStatusIsCounted(t *testing.T) {
	const counter = 7
	response := func(status, body int) string {
		return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, body, make([]byte, body))
	}
	for name, c := range map[string]struct {
		segments []string
		messages int
		want     map[int]int
	}{
		"200":           {[]string{response(200, 3)}, 1, map[int]int{200: 1}},
		"204":           {[]string{"HTTP/1.1 204 No Content\r\n\r\n"}, 1, map[int]int{204: 1}},
		"299":           {[]string{response(299, 0)}, 1, map[int]int{299: 1}},
		"in pieces":     {[]string{response(201, 300)[:100], response(201, 300)[100:200], response(201, 300)[200:]}, 1, map[int]int{201: 1}},
		"two at once":   {[]string{response(201, 0) + response(202, 5)}, 2, map[int]int{201: 1, 202: 1}},
		"end and begin": {[]string{response(201, 100) + response(203, 100)[:60], response(203, 100)[60:]}, 2, map[int]int{201: 1, 203: 1}},
		"not digested":  {[]string{response(500, 0)}, 1, map[int]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.put(r.objs.PodCounters, uint32(counter), make([]EproxyPodStats, ebpf.MustPossibleCPU()))
			r.pod(func(p *EproxyPod) { p.Counter = counter })
			_, req := r.take(t)
			s := r.slot()
			s.Tail += uint32(c.messages - 1)
			s.Messages[1] = s.Messages[0]
			r.put(r.objs.Slots, uint32(rigSlot), &s)
			seq := uint32(podISS)
			for _, b := range c.segments {
				r.run(r.objs.TcPodIn, r.fromPod(seq, sltISS+req, "PA", []byte(b)))
				seq += uint32(len(b))
			}
			if got := r.statuses(counter); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("counted %v, want %v: %v", got, c.want, r.allReasons())
			}
		})
	}
}
