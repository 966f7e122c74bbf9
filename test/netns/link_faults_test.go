package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

const faultsConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 10s
    pipeline: 8
    retry: {attempts: 20, backoff: 20ms, max_backoff: 500ms}
  - name: hum
    url: http://hum.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 10s
    retry: {attempts: 20, backoff: 20ms, max_backoff: 500ms}
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: sensors/+/hum
    function: hum
`

// seedOf is EPROXY_SEED, or a new one; it is in the log either way. With it the
// devices send the same messages and the n-th frames of the links meet the same
// faults. Which segment the n-th frame is depends on timing: a failure need not
// come again the first time.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("EPROXY_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("EPROXY_SEED: %v", err)
		}
	}
	t.Logf("EPROXY_SEED=%d", seed)
	return seed
}

// wired is a lab with a cable in every link.
type wired struct {
	*lab.Lab
	cables map[lab.Role]*wire.Wire
}

func newWired(t *testing.T, seed uint64) *wired {
	t.Helper()
	l, err := lab.NewWired()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	w := &wired{Lab: l, cables: make(map[lab.Role]*wire.Wire)}
	for i, r := range []lab.Role{lab.Dev, lab.Pod0, lab.Pod1} {
		host, node := lab.WireEnds(r)
		err := l.Do(lab.Wire, func() error {
			c, err := wire.Open(host, node, seed+uint64(i))
			w.cables[r] = c
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.cables[r].Close)
	}
	return w
}

// set changes the faults of links, in both directions.
func (w *wired) set(f wire.Faults, roles ...lab.Role) {
	for _, r := range roles {
		w.cables[r].SetFaults(wire.A, f)
		w.cables[r].SetFaults(wire.B, f)
	}
}

// faults are how many there were so far on links.
func (w *wired) faults(roles ...lab.Role) (n int) {
	for _, r := range roles {
		for _, side := range []wire.Side{wire.A, wire.B} {
			n += w.cables[r].Count(side).Faults
		}
	}
	return n
}

// fleet runs devices side by side until all have published everything.
func fleet(t *testing.T, devices []*device, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(devices))
	for i, d := range devices {
		wg.Go(func() { errs[i] = d.run(ctx) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func newFleet(l *lab.Lab, seed uint64, n, messages int) []*device {
	var devices []*device
	for i := range n {
		d := newDevice(l, fmt.Sprintf("f%d-%d", serial.Add(1), i), seed, messages, []int{1, 4, 16}[i%3])
		d.batch = i%2 == 1
		d.ipv6 = i == 5 // its pods are not: the fallback serves it
		devices = append(devices, d)
	}
	return devices
}

var (
	everything = wire.Faults{Drop: 0.03, Duplicate: 0.03, Corrupt: 0.02, Reorder: 0.05, Late: 0.01, Delay: 500 * time.Millisecond, Cut: 0.05, Bytes: 0.005, Join: 0.1}
	faultKinds = []struct {
		name   string
		faults wire.Faults
		few    bool // recovery takes seconds per message
		both   bool // also on the devices' and the pods' links at once
	}{
		{"none", wire.Faults{}, false, false},
		{"loss 5%", wire.Faults{Drop: 0.05}, false, false},
		{"loss 20%", wire.Faults{Drop: 0.2}, true, true},
		{"duplicates", wire.Faults{Duplicate: 0.2, Delay: 300 * time.Millisecond}, false, true},
		{"reordering", wire.Faults{Reorder: 0.2}, false, true},
		{"corruption", wire.Faults{Corrupt: 0.05}, false, true},
		{"cut", wire.Faults{Cut: 0.4}, false, true},
		{"one byte per segment", wire.Faults{Bytes: 0.2}, false, false},
		{"joined", wire.Faults{Join: 0.6}, false, false},
		{"delay to 2 s", wire.Faults{Late: 0.05, Delay: 2 * time.Second}, true, true},
		{"everything", everything, false, true},
	}
)

// TestLinkFaults: whatever the links do to segments, everything arrives, whole,
// where it belongs, and is acknowledged only then.
func TestLinkFaults(t *testing.T) {
	seed := seedOf(t)
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seed)
			r := newRecorder()
			for _, ipv6 := range []bool{false, true} {
				r.serveGo(t, l.Lab, ipv6, ok, nil)
			}
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			for _, where := range []struct {
				name  string
				links []lab.Role
			}{{"device", []lab.Role{lab.Dev}}, {"pod", []lab.Role{lab.Pod0, lab.Pod1}}, {"both", []lab.Role{lab.Dev, lab.Pod0, lab.Pod1}}} {
				for _, k := range faultKinds {
					if where.name == "both" && !k.both || where.name == "pod" && k.name == "none" {
						continue
					}
					t.Run(where.name+"/"+k.name, func(t *testing.T) {
						n := 100
						if k.few {
							n = 15
						}
						l.set(k.faults, where.links...)
						defer l.set(wire.Faults{}, where.links...)
						before, faults := s.counts(), l.faults(where.links...)
						devices := newFleet(l.Lab, seed, 6, n)
						fleet(t, devices, 4*time.Minute)
						s.checkFleet(t, r, devices, before, where.name == "device")
						happened := l.faults(where.links...) - faults
						t.Logf("%d faults", happened)
						if happened == 0 && k.name != "none" {
							t.Error("nothing happened on the links: the test tests nothing")
						}
					})
				}
			}
		})
	}
}

// checkFleet checks what arrived, and that nothing is left over.
func (s *system) checkFleet(t *testing.T, r *recorder, devices []*device, before map[string]int, mustLast bool) {
	t.Helper()
	got, _ := r.all()
	duplicates, err := check(got, devices)
	if err != nil {
		t.Error(err)
	}
	redials := 0
	for _, d := range devices {
		redials += d.redials
	}
	if mustLast && redials > 0 {
		t.Errorf("%d connections broke", redials)
	}
	s.slotsReturn(t)
	after := s.counts()
	taken, eligible := share(before, after)
	t.Logf("taken in the kernel: %d of %d eligible; %d duplicates, %d reconnects", taken, eligible, duplicates, redials)
	if after["tc_device_out/broken"] > before["tc_device_out/broken"] {
		t.Error("a connection's ledger broke")
	}
}

// slotsReturn waits until all slots are idle again, or closed because nothing needs them.
func (s *system) slotsReturn(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		var busy []string
		for _, row := range s.mapsctl("slots") {
			if state, _ := row["state"].(string); state != "idle" && state != "closed" {
				busy = append(busy, fmt.Sprintf("%v %s", row["slot"], state))
			}
		}
		if len(busy) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("slots that do not come back: %s", strings.Join(busy, ", "))
			return
		}
	}
}
