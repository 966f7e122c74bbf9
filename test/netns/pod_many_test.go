package netns

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"eproxy/test/lib/lab"
)

// TestManyPods: 300 pods are served, as many of one function in the kernel path as there may be, and
// the memory of their slots is that of those which are open.
func TestManyPods(t *testing.T) {
	const pods, most = 300, 256 // abi.PodsPerFunction
	l := newLab(t)
	r := newRecorder()
	var mu sync.Mutex
	served := make(map[string]int)
	messages := r.handler(ok)
	var lines []string
	for i := range pods {
		role := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
		address := fmt.Sprintf("%s:%d", lab.PodAddr(role, false), 8000+i)
		lines = append(lines, "- "+address+"\n")
		serveOn(t, l, role, address, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			mu.Lock()
			served[address]++
			mu.Unlock()
			messages.ServeHTTP(w, q)
		}), nil)
	}
	file := filepath.Join(t.TempDir(), "pods")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, l, "tc", fmt.Sprintf(fileConfig, file, "10s")+"limits: {pods: 1000}\n")
	until(t, "all pods to be in service", func() bool {
		kernel, left := 0, 0
		for _, row := range s.mapsctl("pods") {
			switch {
			case row["idle"].(float64) > 0:
				kernel++
			case strings.Contains(row["reason"].(string), "holds 256 pods of one function"):
				left++
			}
		}
		return kernel == most && left == pods-most
	})
	before := s.counts()
	for range 10 {
		deliverSome(t, l, r, 200)
	}
	if taken, eligible := share(before, s.counts()); taken < eligible*9/10 {
		t.Errorf("%d of %d messages were taken by the programs", taken, eligible)
	}
	mu.Lock()
	if len(served) < most*9/10 {
		t.Errorf("%d of %d pods got messages", len(served), pods)
	}
	mu.Unlock()
	// chunks of 256 slots; with 64 slots for each pod side by side there would be 64
	chunks, err := filepath.Glob(filepath.Join(l.BPFFS(), "maps", "slots-*"))
	if err != nil || len(chunks) == 0 || len(chunks) > 8 {
		t.Errorf("%d chunks of slots (%v)", len(chunks), err)
	}
}
