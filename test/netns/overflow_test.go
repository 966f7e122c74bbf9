package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lab"
)

// pollers are the kernel threads that poll interfaces named eth0.
func pollers(t *testing.T) map[int]bool {
	t.Helper()
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	pids := make(map[int]bool)
	for _, f := range comms {
		if b, err := os.ReadFile(f); err == nil && bytes.HasPrefix(b, []byte("napi/eth0-")) {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			pids[pid] = true
		}
	}
	return pids
}

// threaded has an interface of a pod polled by a kernel thread on the first
// processor only.
func threaded(t *testing.T, l *lab.Lab, pod lab.Role) {
	t.Helper()
	before := pollers(t)
	// ip netns exec has a sysfs of that namespace
	if out, err := exec.Command("ip", "netns", "exec", l.Name(pod), "sh", "-c", "echo 1 > /sys/class/net/eth0/threaded").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var set unix.CPUSet
	set.Set(0)
	found := false
	for pid := range pollers(t) {
		if before[pid] {
			continue
		}
		found = true
		if err := unix.SchedSetaffinity(pid, &set); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatal("no kernel thread polls the pod's interface")
	}
}

// starve keeps everything else off the first processor for some time.
func starve(d time.Duration) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(0)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			err = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 50}, 0)
		}
		for end := time.Now().Add(d); err == nil && time.Now().Before(end); {
		}
		done <- err
	}()
	return <-done
}

// TestRedirectOverflow: XDP redirects to a pod's interface in a queue of 256
// frames. The thread that empties it gets no processor for a while, more
// requests come than it holds, and the rest is lost without a word: the
// devices' retransmissions bring it.
func TestRedirectOverflow(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Fatal("one processor must starve while the other works")
	}
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", fmt.Sprintf(`functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s:8080"]
    concurrency: 64
    pipeline: 8
    timeout: 10s
    retry: {attempts: 20, backoff: 20ms, max_backoff: 500ms}
routes:
  - topic: sensors/+/temp
    function: temp
`, lab.PodAddr(lab.Pod0, false)))
	threaded(t, l, lab.Pod0)
	const devices, each, window = 150, 120, 3 // as many as the programs send through the queue, per device
	var fleetOf []*device
	for i := range devices {
		d := newDevice(l, fmt.Sprintf("q%d-%d", serial.Add(1), i), 1, each, window)
		for n := range d.packets { // short ones, which XDP takes
			d.packets[n] = packetOf{"temp", 1, sealed(d.id, "temp", n, 10)}
		}
		fleetOf = append(fleetOf, d)
	}
	before, dropped := s.counts(), drops(t, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fleet(t, fleetOf, 2*time.Minute)
	}()
	r.wait(t, 500)
	// until it was full: the devices need not be sending when it starves
	for running := true; running && drops(t, l) == dropped; {
		if err := starve(250 * time.Millisecond); err != nil { // the duration of the fault
			t.Fatal(err)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
	<-done
	s.checkFleet(t, r, fleetOf, before, true)
	after := s.counts()
	lost := drops(t, l) - dropped
	again := after["tc_device_in/reinjected"] - before["tc_device_in/reinjected"]
	t.Logf("%d frames found the queue full; %d requests sent again", lost, again)
	if lost == 0 {
		t.Error("the queue never was full: the test tests nothing")
	}
	if again == 0 {
		t.Error("no request was sent again on a retransmission of its device")
	}
}

// drops are the frames that an XDP redirect to the pod could not deliver.
func drops(t *testing.T, l *lab.Lab) int {
	t.Helper()
	stats, err := l.Statistics(lab.Node, "pod0")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, v := range stats {
		if strings.HasSuffix(name, "xdp_xmit_errors") {
			n += int(v)
		}
	}
	return n
}
