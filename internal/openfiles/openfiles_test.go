package openfiles

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClients(t *testing.T) {
	for _, c := range []struct {
		limit      uint64
		each, want int
	}{{1024, 1, 768}, {8192, 1, 6144}, {20000, 1, 17952}, {20000, 2, 8976}, {unix.RLIM_INFINITY, 1, 1<<31 - 1 - 2048}} {
		if n := Clients(c.limit, c.each); n != c.want {
			t.Errorf("limit %d, %d each: room for %d, want %d", c.limit, c.each, n, c.want)
		}
	}
}

// TestSoftLimitIsRaised: what a shell gives a program by default is not all that it may have.
func TestSoftLimitIsRaised(t *testing.T) {
	if os.Getenv("EPROXY_PRINT_LIMIT") != "" {
		n, err := Limit()
		fmt.Println("limit", n, err)
		return
	}
	cmd := exec.Command("sh", "-c", `ulimit -Sn 1000 && ulimit -Hn 3000 && exec "$0" -test.run='^TestSoftLimitIsRaised$'`, os.Args[0])
	cmd.Env = append(os.Environ(), "EPROXY_PRINT_LIMIT=1")
	out, err := cmd.CombinedOutput()
	var n int
	if _, serr := fmt.Sscanf(string(out), "limit %d <nil>", &n); err != nil || serr != nil || n < 2999 { // the runtime may leave one out
		t.Errorf("%s, %v, %v", out, err, serr)
	}
}

// TestRoom: however many come at a time, no more are let in than there is room for, and one that leaves makes room for one.
func TestRoom(t *testing.T) {
	const most, callers = 100, 8
	r := NewRoom(most)
	in := make([]int, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range most {
				if r.Enter() {
					in[i]++
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range in {
		sum += n
	}
	if sum != most {
		t.Errorf("%d are in, want %d", sum, most)
	}
	r.Leave()
	if !r.Enter() || r.Enter() {
		t.Error("who leaves does not make room for one")
	}
}
