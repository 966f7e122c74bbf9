package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Controllers that limits need.
const (
	Memory = "memory"
	CPU    = "cpu"
	PIDs   = "pids"
)

// hierarchy is a mounted tree of groups.
type hierarchy struct {
	root string
	v2   bool
}

// Hierarchies are the trees of groups of this machine.
type Hierarchies struct {
	unified     string               // where cgroup v2 is mounted; "": nowhere
	controllers map[string]hierarchy // by name, of those above
}

// Find looks where the hierarchies of this machine are mounted.
func Find() (*Hierarchies, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return find(f, func(root string) ([]byte, error) { return os.ReadFile(filepath.Join(root, "cgroup.controllers")) })
}

// find reads mountinfo (proc_pid_mountinfo(5)); controllers reads those of cgroup v2. A
// controller belongs to one hierarchy at a time, so the first mount of it will do.
func find(mountinfo io.Reader, controllers func(root string) ([]byte, error)) (*Hierarchies, error) {
	h := &Hierarchies{controllers: make(map[string]hierarchy)}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		at, how := strings.Fields(before), strings.Fields(after)
		if !ok || len(at) < 5 || len(how) < 3 {
			continue
		}
		root := unescape.Replace(at[4])
		switch how[0] {
		case "cgroup2":
			if h.unified != "" {
				continue
			}
			h.unified = root
			text, err := controllers(root)
			if err != nil {
				return nil, fmt.Errorf("controllers of cgroup v2: %w", err)
			}
			h.add(strings.Fields(string(text)), hierarchy{root, true})
		case "cgroup":
			h.add(strings.Split(how[2], ","), hierarchy{root, false})
		}
	}
	return h, lines.Err()
}

// unescape undoes how mountinfo writes blanks and the like.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func (h *Hierarchies) add(names []string, in hierarchy) {
	for _, name := range names {
		if _, known := h.controllers[name]; !known && slices.Contains([]string{Memory, CPU, PIDs}, name) {
			h.controllers[name] = in
		}
	}
}

// Where says which hierarchy has a controller, for people; empty: none.
func (h *Hierarchies) Where(controller string) string {
	in, ok := h.controllers[controller]
	switch {
	case !ok:
		return ""
	case in.v2:
		return "cgroup v2 at " + in.root
	}
	return "cgroup v1 at " + in.root
}

// Unified is where cgroup v2 is mounted; empty: nowhere.
func (h *Hierarchies) Unified() string { return h.unified }

// roots are all hierarchies that groups are made in, each once.
func (h *Hierarchies) roots() (out []hierarchy) {
	if h.unified != "" {
		out = append(out, hierarchy{h.unified, true})
	}
	for _, name := range []string{Memory, CPU, PIDs} {
		if in, ok := h.controllers[name]; ok && !slices.Contains(out, in) {
			out = append(out, in)
		}
	}
	return out
}
