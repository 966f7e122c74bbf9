package instances

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/test/lib/swap"
)

// large is a function with 24 MiB that it touches, and says the sum of when it is asked.
func large() *config.Run {
	run := says("sum(big[::4096])")
	run.Command[2] = "big = bytearray(b'\\x01' * (24 << 20))\n" + run.Command[2]
	run.Idle, run.PageOut, run.Memory = time.Second, time.Second, 128<<20
	return run
}

// anonymous is how many bytes of a process's own are in memory, and how many in swap.
func anonymous(t *testing.T, pid int) (memory, swapped int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "RssAnon:":
			memory = n << 10
		case "VmSwap:":
			swapped = n << 10
		}
	}
	return memory, swapped
}

// TestPagedOut: what was frozen for a while leaves memory, and has all of it when it is woken; in either state it can be stopped.
func TestPagedOut(t *testing.T) {
	swap.On(t)
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", large())
	const sum = "6144" // a byte of each of 24 MiB's pages
	for range 2 {
		pod := w.found("f", 1)[0]
		if got := get(t, pod); got != sum {
			t.Errorf("it says %q", got)
		}
		w.r.Touch("f")
		var s Status
		until(t, "instance that is paged out", func() bool { s = w.r.Instances()[0]; return s.State == PagedOut })
		if !w.frozen(s) {
			t.Error("it is not frozen")
		}
		if memory, swapped := anonymous(t, s.PID); memory > 4<<20 || swapped < 20<<20 {
			t.Errorf("%d bytes of it are in memory, %d in swap", memory, swapped)
		}
		if s.Used > 16<<20 || !strings.HasPrefix(s.Reason, "it had ") {
			t.Errorf("%+v", s)
		}
		if f := w.r.Functions()[0]; f.State != PagedOut || f.Instances != 1 {
			t.Errorf("%+v", f)
		}
		w.r.Wake("f")
	}
	w.r.Touch("f")
	until(t, "instance that is paged out", func() bool { return w.r.Instances()[0].State == PagedOut })
	stop()
	w.close()
}

// TestNotPagedOut: without swap an instance stays frozen, whatever page_out says, and doctor says why.
func TestNotPagedOut(t *testing.T) {
	swap.On(t)
	if err := Paging(); err != nil {
		t.Errorf("with swap: %v", err)
	}
	defer func(own string) { swapsFile = own }(swapsFile)
	none := filepath.Join(t.TempDir(), "swaps")
	for what, heading := range map[string]string{"a kernel without": "", "none": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"} {
		if swapsFile = none; heading == "" {
			swapsFile += ".missing"
		} else if err := os.WriteFile(swapsFile, []byte(heading), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Paging()
		if err == nil || !strings.Contains(err.Error(), "no swap") {
			t.Errorf("%s: %v", what, err)
		}
		d := &doze{instance: &instance{run: &config.Run{PageOut: time.Second}}}
		if d.pageOut(context.Background()) || d.status.State != "" {
			t.Errorf("%s: it is %s", what, d.status.State)
		}
	}
}

// TestWokenWhilePagedOut: one that is woken in the midst of it goes on at once.
func TestWokenWhilePagedOut(t *testing.T) {
	swap.On(t)
	b := &bed{at: func(string, func()) {}}
	uplink(t)
	w := newWorld(t)
	w.r.rest = b.begin
	run := large()
	run.Idle, run.PageOut = 40*time.Millisecond, 41*time.Millisecond
	w.run("f", run)
	var pod netip.AddrPort
	for rounds := range 20 {
		pod = w.found("f", 1)[0]
		w.r.Touch("f")
		until(t, "sleep", func() bool { n, _ := b.counts(); return n > rounds })
		b.mu.Lock()
		wake, woken := b.wake, make(chan struct{})
		b.mu.Unlock()
		time.AfterFunc(time.Duration(rounds%5*4)*time.Millisecond, func() { wake(); close(woken) }) // at another moment each time
		<-woken
		if got := get(t, pod); got != "6144" {
			t.Fatalf("round %d: it says %q", rounds, got)
		}
	}
	if s := w.r.Instances()[0]; s.Starts != 1 {
		t.Errorf("%+v", s)
	}
}

// mappingsOf are all that a file of mappings names.
func mappingsOf(t *testing.T, maps io.Reader) (got []mapping) {
	t.Helper()
	if err := eachMapping(maps, func(m mapping) error { got = append(got, m); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestMappings: ranges of a process's addresses; what is the kernel's, or no range, is none.
func TestMappings(t *testing.T) {
	got := mappingsOf(t, strings.NewReader("00400000-0040b000 r-xp 00000000 08:01 1 /bin/cat\n7ffd0000-7ffd2000 rw-p 0 00:00 0 [stack]\nffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]\nno range\n"))
	if len(got) != 2 || got[0] != (mapping{0x400000, 0x40b000}) || got[1] != (mapping{0x7ffd0000, 0x7ffd2000}) {
		t.Errorf("%x", got)
	}
}

// nameMax is NAME_MAX of limits.h.
const nameMax = 255

// TestMappingOfLongName: a mapping of a file whose name is as long as any is one like others.
func TestMappingOfLongName(t *testing.T) {
	name := t.TempDir()
	for len(name) < unix.PathMax-1-nameMax {
		name = filepath.Join(name, strings.Repeat("d", nameMax/2))
	}
	if err := os.MkdirAll(name, 0o700); err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(name, strings.Repeat("f", unix.PathMax-2-len(name)))
	if err := os.WriteFile(name, make([]byte, os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	at := uintptr(unsafe.Pointer(&b[0]))
	if got := mappingsOf(t, maps); !slices.Contains(got, mapping{at, at + uintptr(os.Getpagesize())}) {
		t.Errorf("%x is not among %x", at, got)
	}
}

// TestMappingsTakeNoMemory: what is read of a process's mappings is not kept, however long their names are; nor is a part of a name a range.
func TestMappingsTakeNoMemory(t *testing.T) {
	const many, buffer = 4096, 4096
	line := "7f0000000000-7f0000001000 r--p 00000000 00:00 1 /"
	line += strings.Repeat("x", buffer-len(line)) + "1000-2000 \n"
	maps := strings.NewReader(strings.Repeat(line, many))
	var before, after runtime.MemStats
	n := 0
	runtime.ReadMemStats(&before)
	err := eachMapping(maps, func(m mapping) error {
		if n++; m != (mapping{0x7f0000000000, 0x7f0000001000}) {
			return fmt.Errorf("%x is no mapping", m)
		}
		return nil
	})
	runtime.ReadMemStats(&after)
	if err != nil || n != many {
		t.Errorf("%d mappings, %v", n, err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes of memory", took)
	}
}
