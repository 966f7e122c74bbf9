package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"eproxy/test/lib/lab"
)

// restConfig has the defaults of everything but what must be given.
const restConfig = `functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["10.88.1.2:8080", "10.88.2.2:8080"]}
routes:
  - {topic: sensors/+/temp, function: temp}
`

// largest is how many maps are named.
const largest = 5

// memory prints what eproxy occupies with defaults and without any device.
func (b *bench) memory(w io.Writer) (err error) {
	p, err := b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: filepath.Dir(b.self), Mode: rowTC, Config: restConfig})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if _, err := b.idle(); err != nil { // it has come to rest
		return err
	}
	maps, err := mapsOf(p.PID())
	if err != nil {
		return err
	}
	anon, err := field(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()), "Pss_Anon")
	if err != nil {
		return err
	}
	slices.SortFunc(maps, func(a, b mapMemory) int { return int(b.bytes - a.bytes) })
	var sum int64
	var names []string
	for i, m := range maps {
		sum += m.bytes
		if i < largest {
			names = append(names, fmt.Sprintf("%s %.1f", m.name, mebi(m.bytes)))
		}
	}
	fmt.Fprintf(w, "memory at rest with defaults, no device: %.1f MiB; %d maps %.1f (%s), process %.1f\n",
		mebi(sum+anon<<10), len(maps), mebi(sum), strings.Join(names, ", "), mebi(anon<<10))
	return nil
}

func mebi(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// mapMemory is what the kernel charges for a map.
type mapMemory struct {
	name  string
	bytes int64
}

// mapsOf are the maps that a process has open, with the maps inside them.
func mapsOf(pid int) ([]mapMemory, error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return nil, err
	}
	found := make(map[ebpf.MapID]mapMemory)
	for _, f := range infos {
		id, err := field(f, "map_id")
		if err != nil {
			continue // closed meanwhile, or no map
		}
		if err := addMap(found, ebpf.MapID(id)); err != nil {
			return nil, fmt.Errorf("map %d: %w", id, err)
		}
	}
	var out []mapMemory
	for _, m := range found {
		out = append(out, m)
	}
	return out, nil
}

// addMap adds a map and those inside it.
func addMap(found map[ebpf.MapID]mapMemory, id ebpf.MapID) error {
	if _, ok := found[id]; ok {
		return nil
	}
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return err
	}
	bytes, err := field(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()), "memlock")
	if err != nil {
		return err
	}
	found[id] = mapMemory{info.Name, bytes}
	if m.Type() != ebpf.ArrayOfMaps && m.Type() != ebpf.HashOfMaps {
		return nil
	}
	key := make([]byte, m.KeySize())
	var inner ebpf.MapID
	it := m.Iterate()
	for it.Next(&key, &inner) {
		if err := addMap(found, inner); err != nil {
			return err
		}
	}
	return it.Err()
}

// field is a number in a file of /proc that has a name and a value on each line.
func field(file, name string) (n int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), ":")
		if key == name {
			_, err := fmt.Sscan(value, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("%s: no %s", file, name)
}
