package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"eproxy/internal/pinned"
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
	p, err := b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: rowTC, Config: restConfig})
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
	slices.SortFunc(maps, func(a, b pinned.MapMemory) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var sum int64
	var names []string
	for i, m := range maps {
		sum += int64(m.Bytes)
		if i < largest {
			names = append(names, fmt.Sprintf("%s %.1f", m.Name, mebi(int64(m.Bytes))))
		}
	}
	fmt.Fprintf(w, "memory at rest with defaults, no device: %.1f MiB; %d maps %.1f (%s), process %.1f\n",
		mebi(sum+anon<<10), len(maps), mebi(sum), strings.Join(names, ", "), mebi(anon<<10))
	return nil
}

func mebi(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// mapsOf are the maps that a process has open, with the maps inside them.
func mapsOf(pid int) ([]pinned.MapMemory, error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return nil, err
	}
	var ids []ebpf.MapID
	for _, f := range infos {
		if id, err := field(f, "map_id"); err == nil { // else closed meanwhile, or no map
			ids = append(ids, ebpf.MapID(id))
		}
	}
	return pinned.MemoryOf(ids)
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
