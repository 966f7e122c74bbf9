package pindir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/test/lib/bpffs"
)

// markMap is a new mark, as the loader has one.
func markMap(t *testing.T) *ebpf.Map {
	t.Helper()
	spec, err := bpf.LoadEproxy()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(spec.Maps[bpf.EproxyMapMark])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// pinMap pins some map of nobody's.
func pinMap(t *testing.T, name string) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(name); err != nil {
		t.Fatal(err)
	}
}

func pinProgram(t *testing.T, name string) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Pin(name); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.MkdirAll(n, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, name string) {
	t.Helper()
	mkdir(t, filepath.Dir(name))
	if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// tree lists everything under the directories, so that it can be compared.
func tree(t *testing.T, dirs ...string) []string {
	t.Helper()
	var all []string
	for _, d := range dirs {
		err := filepath.WalkDir(d, func(path string, e fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// pinned makes eproxy's pins, as this version does.
func pinned(t *testing.T, dir string) {
	t.Helper()
	staging, err := Create(dir, markMap(t))
	if err != nil {
		t.Fatal(err)
	}
	pinMap(t, Path(staging, "maps", "flows"))
	pinProgram(t, Path(staging, "progs", "tc_device_in"))
	if err := Commit(dir); err != nil {
		t.Fatal(err)
	}
}

// unmarked makes pins as the version before the mark did.
func unmarked(t *testing.T, dir string) {
	t.Helper()
	for _, s := range subdirs {
		mkdir(t, filepath.Join(dir, s))
	}
	for _, m := range unmarkedMaps {
		pinMap(t, Path(dir, "maps", m))
	}
	for _, p := range unmarkedPrograms {
		pinProgram(t, Path(dir, "progs", p))
	}
}

// TestForeignIsRefused: whatever is not eproxy's is refused in one line that says what
// it is, and nothing of it changes: neither by Remove nor, first of all, on the
// way out through a symbolic link.
func TestForeignIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir, outside string) // dir is on a bpf file system, outside is not
		at   string                                  // what Remove is told; "": dir
		want string
	}{
		{"ordinary directory", func(t *testing.T, _, outside string) { write(t, outside+"/links/file") }, "outside", "ordinary directory on "},
		{"ordinary empty directory", func(*testing.T, string, string) {}, "outside", "ordinary directory on "},
		{"file", func(t *testing.T, _, outside string) { write(t, outside+"/file") }, "outside/file", "it is no directory"},
		{"root of the bpf file system", func(t *testing.T, dir, _ string) { pinned(t, dir) }, "..", "root of the bpf file system"},
		{"symbolic link to pins", func(t *testing.T, dir, outside string) {
			pinned(t, dir+"1")
			symlink(t, dir+"1", dir)
		}, "", "it is a symbolic link to "},
		{"symbolic link to an ordinary directory", func(t *testing.T, dir, outside string) {
			write(t, outside+"/links/file")
			symlink(t, outside, dir)
		}, "", "it is a symbolic link to "},
		{"through a symbolic link", func(t *testing.T, dir, outside string) {
			write(t, outside+"/eproxy/links/file")
			symlink(t, outside, dir)
		}, "eproxy", "ordinary directory on "},
		{"another program's pins", func(t *testing.T, dir, _ string) {
			mkdir(t, dir)
			pinMap(t, dir+"/cilium_ipcache")
		}, "", `no mark and holds "cilium_ipcache"`},
		{"another program's pins of the same form", func(t *testing.T, dir, _ string) {
			mkdir(t, dir+"/maps", dir+"/progs", dir+"/links")
			pinMap(t, dir+"/maps/flows")
		}, "", `no mark, and its maps are not those that eproxy pinned before there were marks: "flows"`},
		{"unmarked, and one map more", func(t *testing.T, dir, _ string) {
			unmarked(t, dir)
			pinMap(t, dir+"/maps/mine")
		}, "", "no mark, and its maps are not those"},
		{"unmarked, and another program's link", func(t *testing.T, dir, _ string) {
			unmarked(t, dir)
			pinProgram(t, dir+"/links/theirs-eth0")
		}, "", `no mark and holds "links/theirs-eth0"`},
		{"another program's mark", func(t *testing.T, dir, _ string) {
			mkdir(t, dir+"/maps")
			pinMap(t, dir+"/mark")
		}, "", "its mark is another program's"},
		{"mark that is a program", func(t *testing.T, dir, _ string) {
			mkdir(t, dir)
			pinProgram(t, dir+"/mark")
		}, "", "its mark is no pinned map"},
		{"mark that is a symbolic link", func(t *testing.T, dir, _ string) {
			pinned(t, dir+"1")
			mkdir(t, dir)
			symlink(t, dir+"1/mark", dir+"/mark")
		}, "", "its mark is no pinned map"},
		{"something beside the mark", func(t *testing.T, dir, _ string) {
			pinned(t, dir)
			pinMap(t, dir+"/mine")
		}, "", `beside the mark it holds "mine"`},
		{"directory among the pins", func(t *testing.T, dir, _ string) {
			pinned(t, dir)
			mkdir(t, dir+"/maps/mine")
		}, "", "maps/mine is no pinned object"},
		{"symbolic link among the links", func(t *testing.T, dir, outside string) {
			pinned(t, dir)
			write(t, outside+"/file")
			symlink(t, outside+"/file", dir+"/links/xdp_device-eth0")
		}, "", "links/xdp_device-eth0 is no pinned object"},
		{"links that are elsewhere", func(t *testing.T, dir, outside string) {
			pinned(t, dir)
			write(t, outside+"/file")
			if err := os.Remove(dir + "/links"); err != nil {
				t.Fatal(err)
			}
			symlink(t, outside, dir+"/links")
		}, "", "its links is no directory of the same file system"},
		{"ours, but something foreign where the next ones are made", func(t *testing.T, dir, _ string) {
			pinned(t, dir)
			mkdir(t, dir+"-new")
			pinMap(t, dir+"-new/mine")
		}, "", `no mark and holds "mine"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsroot, outside := bpffs.Mount(t), t.TempDir()
			dir := filepath.Join(fsroot, "eproxy")
			c.make(t, dir, outside)
			at := filepath.Join(dir, c.at)
			if rest, ok := strings.CutPrefix(c.at, "outside"); ok {
				at = outside + rest
			}
			before := tree(t, fsroot, outside)
			err := Remove(at, func(string) error { t.Error("its connections were ended"); return nil })
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Remove: %v, want one line with %q", err, c.want)
			}
			if after := tree(t, fsroot, outside); !slices.Equal(before, after) {
				t.Errorf("was\n%v\nis\n%v", before, after)
			}
		})
	}
}

// TestOwnPinsGo: eproxy's own pins go, whichever version and however far it came.
func TestOwnPinsGo(t *testing.T) {
	for _, c := range []struct {
		name    string
		make    func(t *testing.T, dir string)
		readble bool // its connections can be ended
	}{
		{"nothing", func(*testing.T, string) {}, false},
		{"pins", pinned, true},
		{"pins of the version before the mark", unmarked, true},
		{"pins of a later version", func(t *testing.T, dir string) {
			mkdir(t, dir, dir+"/maps")
			if err := pinMark(dir, markMap(t), abi.AbiVersion+1); err != nil {
				t.Fatal(err)
			}
			pinMap(t, dir+"/maps/new_name")
		}, false},
		{"killed while pinning", func(t *testing.T, dir string) {
			if _, err := Create(dir, markMap(t)); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"killed while removing pins of the version before the mark", func(t *testing.T, dir string) {
			unmarked(t, dir)
			if err := markOld(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(dir + "/maps/flows"); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"killed before the mark went", func(t *testing.T, dir string) {
			mkdir(t, dir)
			if err := pinMark(dir, markMap(t), abi.AbiVersion); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(bpffs.Mount(t), "a", "eproxy")
			c.make(t, dir)
			ended := false
			if err := Remove(dir, func(string) error { ended = true; return nil }); err != nil {
				t.Fatal(err)
			}
			if ended != c.readble {
				t.Errorf("its connections were ended: %v, want %v", ended, c.readble)
			}
			for _, d := range []string{dir, Staging(dir)} {
				if _, err := os.Lstat(d); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left: %v", d, err)
				}
			}
		})
	}
}

// TestOnlyRootEnters: parents are made, only root can enter, an empty directory that
// somebody prepared is used, and what is made is known as ours.
func TestOnlyRootEnters(t *testing.T) {
	root := bpffs.Mount(t)
	dir := filepath.Join(root, "a", "b", "eproxy")
	if err := CheckParent(dir); err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir)
	if info, err := Inspect(dir); err != nil || info.State != Empty {
		t.Errorf("prepared directory: %+v, %v", info, err)
	}
	pinned(t, dir)
	if info, err := Inspect(dir); err != nil || info != (Info{Ours, abi.AbiVersion}) {
		t.Errorf("pins: %+v, %v", info, err)
	}
	for _, d := range []string{dir, dir + "/maps", dir + "/progs", dir + "/links"} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, st.Mode(), err)
		}
	}
}

// TestNotMountedSaysWhatToDo: what to do is in the error, and nothing is made.
func TestNotMountedSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ pins, want string }{
		{dir + "/eproxy", dir + " is not a bpf file system: mount one with 'mount -t bpf bpf " + dir + "'"},
		{dir + "/a/b/eproxy", dir + "/a/b does not exist: pins are on a bpf file system, which 'mount -t bpf bpf /sys/fs/bpf' mounts at its usual place"},
	} {
		if err := CheckParent(c.pins); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.pins, err, c.want)
		}
	}
	if left := tree(t, dir); len(left) != 1 {
		t.Errorf("made: %v", left)
	}
}
