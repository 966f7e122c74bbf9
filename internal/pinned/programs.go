package pinned

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/pindir"
)

// Program is what a program that is attached to interfaces has cost, while the kernel measured it (sysctl
// kernel.bpf_stats_enabled, or somebody who has asked for it).
type Program struct {
	Name string
	Runs uint64
	Time time.Duration // of processors
}

// Programs are those that are pinned, by name.
func (m *Maps) Programs() ([]Program, error) {
	entries, err := os.ReadDir(filepath.Join(m.dir, "progs"))
	if err != nil {
		return nil, fmt.Errorf("list pinned programs: %w", err)
	}
	var out []Program
	for _, e := range entries {
		p, err := readProgram(pindir.Path(m.dir, "progs", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read pinned program %s: %w", e.Name(), err)
		}
		p.Name = e.Name()
		out = append(out, p)
	}
	return out, nil
}

func readProgram(path string) (p Program, err error) {
	prog, err := ebpf.LoadPinnedProgram(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return p, err
	}
	defer prog.Close()
	s, err := prog.Stats()
	if err != nil {
		return p, err
	}
	return Program{Runs: s.RunCount, Time: s.Runtime}, nil
}
