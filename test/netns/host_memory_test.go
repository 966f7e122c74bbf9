package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// memory is what a loader keeps from the rest of the node, in bytes: its maps, as
// the kernel accounts for them, and what is its process's alone.
type memory struct{ maps, process int }

var (
	mapMemory  = regexp.MustCompile(`(?s)memlock:\t(\d+)\n.*map_id:\t(\d+)\n`)
	anonMemory = regexp.MustCompile(`Pss_Anon:\s+(\d+) kB`)
)

// memory reads it from /proc/PID/fdinfo and smaps_rollup.
func (s *system) memory() (m memory) {
	s.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", s.PID())
	infos, err := filepath.Glob(proc + "fdinfo/*")
	if err != nil {
		s.t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range infos {
		info, _ := os.ReadFile(f) // it may have been closed meanwhile
		if x := mapMemory.FindSubmatch(info); x != nil && !seen[string(x[2])] {
			seen[string(x[2])] = true
			n, _ := strconv.Atoi(string(x[1]))
			m.maps += n
		}
	}
	rollup, err := os.ReadFile(proc + "smaps_rollup")
	if err != nil {
		s.t.Fatal(err)
	}
	x := anonMemory.FindSubmatch(rollup)
	if x == nil || m.maps == 0 {
		s.t.Fatalf("no numbers: maps %d, %s", m.maps, rollup)
	}
	n, _ := strconv.Atoi(string(x[1]))
	m.process = n << 10
	return m
}

// mapsSaid is what loader check says that the maps take at rest, MiB.
func (s *system) mapsSaid() int {
	s.t.Helper()
	code, stdout, stderr := command(s.t, "loader", "check", "--config", s.file)
	x := regexp.MustCompile(`memory of the maps: about (\d+) MiB at rest`).FindStringSubmatch(stdout)
	if code != 0 || x == nil {
		s.t.Fatalf("loader check: %d, %s, %s", code, stdout, stderr)
	}
	n, _ := strconv.Atoi(x[1])
	return n
}

// TestMemory: with default limits a loader takes no more of a small node than is
// promised, and more only as connections come, which all are served.
func TestMemory(t *testing.T) {
	const most, clients = 36 << 20, 300 // more than one chunk has entries
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", podConfig(routeConfig, false))
	deliverSome(t, l, r, 1)
	rest := s.memory()
	t.Logf("at rest: maps %d KiB, process %d KiB", rest.maps>>10, rest.process>>10)
	if rest.maps+rest.process > most {
		t.Errorf("at rest it takes %d KiB, promised are %d", (rest.maps+rest.process)>>10, most>>10)
	}
	if said := s.mapsSaid(); rest.maps>>20 < said-2 || rest.maps>>20 > said+8 { // some chunks are there from the beginning
		t.Errorf("at rest the maps take %d MiB, loader check says %d", rest.maps>>20, said)
	}
	already := len(first(r.all()))
	conns := make([]*rawConn, clients)
	for i := range conns {
		conns[i] = rawConnect(t, l, fmt.Sprintf("m%d", i))
	}
	for i, c := range conns {
		c.publish(fmt.Sprintf("sensors/m%d/temp", i), 1, "x")
	}
	if got := len(r.wait(t, already+clients)) - already; got != clients {
		t.Errorf("%d messages arrived, want %d", got, clients)
	}
	if n := len(s.mapsctl("flows")); n < clients {
		t.Errorf("%d connections have entries, want %d", n, clients)
	}
	full := s.memory()
	t.Logf("with %d clients: maps %d KiB, process %d KiB", clients, full.maps>>10, full.process>>10)
	if full.maps <= rest.maps {
		t.Errorf("maps take %d KiB with %d clients and %d without: it grows with nothing", full.maps>>10, clients, rest.maps>>10)
	}
	if strings.Contains(s.Log(), "stays with the fallback") {
		t.Error(s.Log())
	}
}
