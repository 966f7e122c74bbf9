package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Limits bound a group.
type Limits struct {
	Memory int64   // bytes, of processes and page cache; no swap beside it where that can be said
	CPU    float64 // processors; 0: no limit
	PIDs   int     // processes and threads
}

// cpuPeriod is the period of CPU quotas in microseconds, the kernel's default.
const cpuPeriod = 100_000

// Group is one control group: a directory of the same path in each hierarchy.
type Group struct {
	h    *Hierarchies
	path string // below each root
}

// At is the group of a path below the roots; it need not exist.
func (h *Hierarchies) At(path ...string) *Group { return &Group{h, filepath.Join(path...)} }

// Make makes the group, and those above it, with limits. An error leaves nothing that
// Remove does not remove.
func (g *Group) Make(l Limits) error {
	for _, c := range []string{Memory, PIDs} {
		if g.h.Where(c) == "" {
			return fmt.Errorf("no cgroup hierarchy of this machine has the controller %q", c)
		}
	}
	if l.CPU > 0 && g.h.Where(CPU) == "" {
		return fmt.Errorf("no cgroup hierarchy of this machine has the controller %q", CPU)
	}
	for _, in := range g.h.roots() {
		if in.v2 {
			if err := g.delegate(in.root); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Join(in.root, g.path), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return g.limit(l)
}

// delegate has all groups of cgroup v2 above this one hand the controllers down.
func (g *Group) delegate(root string) error {
	dir := root
	parts := strings.Split(filepath.Dir(g.path), "/")
	for i := 0; ; i++ {
		for name, in := range g.h.controllers {
			if !in.v2 {
				continue
			}
			if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+name); err != nil {
				return err
			}
		}
		if i == len(parts) {
			return nil
		}
		dir = filepath.Join(dir, parts[i])
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
}

func (g *Group) limit(l Limits) error {
	if err := g.limitMemory(l.Memory); err != nil {
		return err
	}
	if err := write(g.file(PIDs, "pids.max"), strconv.Itoa(l.PIDs)); err != nil {
		return err
	}
	if l.CPU == 0 {
		return nil
	}
	quota := strconv.FormatInt(int64(l.CPU*cpuPeriod), 10)
	if g.h.controllers[CPU].v2 {
		return write(g.file(CPU, "cpu.max"), quota+" "+strconv.Itoa(cpuPeriod))
	}
	if err := write(g.file(CPU, "cpu.cfs_period_us"), strconv.Itoa(cpuPeriod)); err != nil {
		return err
	}
	return write(g.file(CPU, "cpu.cfs_quota_us"), quota)
}

// limitMemory limits memory, and swap with it: a kernel without swap accounting has no
// such file.
func (g *Group) limitMemory(bytes int64) error {
	limit := strconv.FormatInt(bytes, 10)
	if g.h.controllers[Memory].v2 {
		for name, value := range map[string]string{"memory.swap.max": "0", "memory.oom.group": "1"} {
			if err := write(g.file(Memory, name), value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return write(g.file(Memory, "memory.max"), limit)
	}
	if err := write(g.file(Memory, "memory.limit_in_bytes"), limit); err != nil {
		return err
	}
	if err := write(g.file(Memory, "memory.memsw.limit_in_bytes"), limit); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// AllowSwap lets memory of the group go to swap, up to a number of bytes; 0: no more of it does, what is there stays. It matters
// in cgroup v2 alone: v1 limits memory and swap together.
func (g *Group) AllowSwap(bytes int64) error {
	if !g.h.controllers[Memory].v2 {
		return nil
	}
	err := write(g.file(Memory, "memory.swap.max"), strconv.FormatInt(bytes, 10))
	if errors.Is(err, fs.ErrNotExist) { // without swap accounting nothing limits it
		return nil
	}
	return err
}

// Processes are the group's, but for those of groups in it; as many as can be read.
func (g *Group) Processes() (pids []int) {
	b, _ := os.ReadFile(filepath.Join(g.h.roots()[0].root, g.path, "cgroup.procs"))
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Exists says whether any hierarchy has the group.
func (g *Group) Exists() bool {
	return slices.ContainsFunc(g.h.roots(), func(in hierarchy) bool {
		_, err := os.Stat(filepath.Join(in.root, g.path))
		return err == nil
	})
}

// Add moves a process into the group.
func (g *Group) Add(pid int) error {
	for _, in := range g.h.roots() {
		if err := write(filepath.Join(in.root, g.path, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

// MemoryUsed is how many bytes are charged to the group; 0 if that cannot be read.
func (g *Group) MemoryUsed() int64 {
	name := "memory.usage_in_bytes"
	if g.h.controllers[Memory].v2 {
		name = "memory.current"
	}
	b, _ := os.ReadFile(g.file(Memory, name))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n
}

// OOMKills counts the group's processes that were killed because of its memory limit; 0
// if that cannot be read.
func (g *Group) OOMKills() int {
	name := "memory.oom_control"
	if g.h.controllers[Memory].v2 {
		name = "memory.events"
	}
	n, _ := keyed(g.file(Memory, name), "oom_kill")
	return n
}

// Kill ends all processes of the group and of those in it, frozen ones too.
func (g *Group) Kill() {
	for _, in := range g.h.roots() {
		_ = filepath.WalkDir(filepath.Join(in.root, g.path), func(dir string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil
			}
			if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil { // v2, Linux 5.14
				return nil
			}
			b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for word := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			return nil
		})
	}
}

// removeTime is how long Remove waits for processes that are just ending.
const removeTime = 5 * time.Second

// Remove removes the group in all hierarchies, and the groups in it; those that do not
// exist are no error. Its processes must have ended, or be about to.
func (g *Group) Remove() error {
	limit := time.Now().Add(removeTime)
	var errs []error
	for _, in := range g.h.roots() {
		errs = append(errs, removeTree(filepath.Join(in.root, g.path), limit))
	}
	return errors.Join(errs...)
}

// removeTree removes a directory of groups, the innermost first.
func removeTree(dir string, limit time.Time) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name()), limit); err != nil {
				return err
			}
		}
	}
	for {
		err := os.Remove(dir)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			return nil
		case !errors.Is(err, syscall.EBUSY) || time.Now().After(limit):
			return fmt.Errorf("remove cgroup: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// RemoveIfEmpty removes a group that has no other in it; one that has stays.
func (g *Group) RemoveIfEmpty() {
	for _, in := range g.h.roots() {
		_ = os.Remove(filepath.Join(in.root, g.path))
	}
}

// file is a file of a controller's.
func (g *Group) file(controller, name string) string {
	return filepath.Join(g.h.controllers[controller].root, g.path, name)
}

// write writes a value in one call, as these files want it.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("%s: cannot be set to %s: %w", file, value, errors.Unwrap(err))
	}
	return nil
}

// keyed reads the number behind a key of a file of lines "key number".
func keyed(file, key string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name == key {
			return strconv.Atoi(value)
		}
	}
	return 0, fmt.Errorf("%s: has no %s", file, key)
}
