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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
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

// leaveFirst keeps this process off the first processor until the test ends: a
// thread that starves there may be what all others wait for, and so may the
// interface whose packets it was polling.
func leaveFirst(t *testing.T) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	others := all
	others.Clear(0)
	set := func(cpus *unix.CPUSet) {
		threads, err := filepath.Glob("/proc/self/task/[0-9]*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range threads {
			tid, _ := strconv.Atoi(filepath.Base(f))
			if err := unix.SchedSetaffinity(tid, cpus); err != nil && err != unix.ESRCH {
				t.Fatal(err)
			}
		}
	}
	set(&others) // what they start inherits it
	t.Cleanup(func() { set(&all) })
}

// starve keeps everything else off the first processor for 0.8 s, or until
// enough says so. A process of its own does it, for Go would take the processor
// from a goroutine that only spins; it ends by itself, whatever becomes of the test.
func starve(t *testing.T, enough func() bool) {
	t.Helper()
	hog := exec.Command("timeout", "-s", "KILL", "0.8", "chrt", "-f", "50", "taskset", "-c", "0", "sh", "-c", "while :; do :; done")
	hog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = hog.Wait()
	}()
	for {
		select {
		case <-ended:
			if code := hog.ProcessState.ExitCode(); code != -1 && code != 137 { // killed
				t.Fatalf("%v: %v", hog, hog.ProcessState)
			}
			return
		case <-time.After(20 * time.Millisecond):
			if enough() {
				_ = syscall.Kill(-hog.Process.Pid, syscall.SIGKILL)
			}
		}
	}
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
	leaveFirst(t)
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
	full := func() bool { return drops(t, l) != dropped }
	for running := true; running && !full(); {
		starve(t, full)
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
	again := 0 // by its own timer, by what the pod's acknowledgements say, or by a retransmission of its device
	for _, k := range []string{"control/request_resent", "tc_pod_in/request_resent", "tc_device_in/reinjected"} {
		again += after[k] - before[k]
	}
	t.Logf("%d frames found the queue full; %d requests sent again", lost, again)
	if lost == 0 {
		t.Error("the queue never was full: the test tests nothing")
	}
	if again == 0 {
		t.Error("no request was sent again")
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
