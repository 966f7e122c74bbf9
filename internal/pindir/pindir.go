package pindir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
)

// Path of a kind of pins ("maps", "progs" or "links") under dir.
func Path(dir, kind, name string) string { return filepath.Join(dir, kind, name) }

// Staging is where pins are made before they are renamed to dir as a whole.
func Staging(dir string) string { return filepath.Clean(dir) + "-new" }

// CheckParent makes sure that a pin directory can be made: what is above it is
// on a bpf file system. It changes nothing.
func CheckParent(dir string) error {
	parent := filepath.Dir(filepath.Clean(dir))
	at := parent
	var f unix.Statfs_t
	err := unix.Statfs(at, &f)
	for errors.Is(err, fs.ErrNotExist) && at != "/" {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &f)
	}
	switch {
	case err != nil:
		return fmt.Errorf("bpffs %s: %w", at, err)
	case f.Type == bpfFSMagic:
		return nil
	case at == parent:
		return fmt.Errorf("%s is not a bpf file system: mount one with 'mount -t bpf bpf %s'", at, at)
	}
	return fmt.Errorf("%s does not exist: pins are on a bpf file system, which 'mount -t bpf bpf /sys/fs/bpf' mounts at its usual place", parent)
}

// Create makes the staging directory of dir, with parents, and pins the mark in
// it, so that whatever stays there after a crash is known as eproxy's. Only this
// process's user can enter it.
func Create(dir string, mark *ebpf.Map) (staging string, err error) {
	staging = Staging(dir)
	if err := os.MkdirAll(staging, 0o700); err != nil {
		return "", fmt.Errorf("make pin directory: %w", err)
	}
	if err := pinMark(staging, mark, abi.AbiVersion); err != nil {
		_ = os.Remove(staging)
		return "", err
	}
	for _, sub := range subdirs {
		if err := os.Mkdir(filepath.Join(staging, sub), 0o700); err != nil {
			return "", fmt.Errorf("make pin directory: %w", err)
		}
	}
	return staging, nil
}

func pinMark(dir string, mark *ebpf.Map, version uint32) error {
	if err := mark.Put(uint32(0), &bpf.EproxyPinMark{Magic: abi.MarkMagic, Version: version}); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	if err := mark.Pin(filepath.Join(dir, markName)); err != nil {
		return fmt.Errorf("pin mark: %w", err)
	}
	return nil
}

// Commit moves the staging directory into place.
func Commit(dir string) error {
	// Not os.Rename, which refuses to replace a directory, empty or not.
	if err := unix.Rename(Staging(dir), filepath.Clean(dir)); err != nil {
		return fmt.Errorf("move pins into place: %w", err)
	}
	return nil
}

// Remove detaches the links that are pinned under dir and removes all pins,
// whoever made them. before runs first, with every directory whose maps this
// program can read: those of its own ABI version, and of the one before the mark. Its
// error keeps nothing from being removed, and is returned then.
// Nothing there is no error. A directory that is not eproxy's is refused before
// anything is touched.
func Remove(dir string, before func(dir string) error) error {
	type pins struct {
		dir  string
		info Info
	}
	var ours []pins
	for _, d := range []string{filepath.Clean(dir), Staging(dir)} {
		info, err := Inspect(d)
		if err != nil {
			return err
		}
		if info.State == Ours {
			ours = append(ours, pins{d, info})
		}
	}
	var failed []error
	for _, p := range ours {
		if p.info.Version == abi.AbiVersion || p.info.Version == 0 {
			failed = append(failed, before(p.dir))
		}
		if err := remove(p.dir); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// remove removes a directory that Inspect found to be eproxy's: links first,
// so that nothing is attached without its maps, the mark last, so that what is
// left after a crash is still known as eproxy's.
func remove(dir string) error {
	root, err := os.OpenRoot(dir) // nothing outside can be removed through it
	if err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	defer root.Close()
	if _, err := root.Lstat(markName); errors.Is(err, fs.ErrNotExist) {
		if err := markOld(dir); err != nil {
			return err
		}
	}
	for _, sub := range subdirs {
		names, err := list(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range names {
			if sub == "links" {
				detach(Path(dir, sub, n))
			}
			if err := root.Remove(filepath.Join(sub, n)); err != nil {
				return fmt.Errorf("remove pins: %w", err)
			}
		}
		if err := root.Remove(sub); err != nil {
			return fmt.Errorf("remove pins: %w", err)
		}
	}
	if err := root.Remove(markName); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// detach takes a link's program off its interface, which may be gone.
func detach(name string) {
	l, err := link.LoadPinnedLink(name, nil)
	if err != nil {
		return
	}
	_ = l.Detach()
	_ = l.Close()
}

// markOld marks pins of the version before the mark, whose names alone say
// whose they are: not any more when half of them are removed.
func markOld(dir string) error {
	spec, err := bpf.LoadEproxy()
	if err != nil {
		return fmt.Errorf("read BPF object: %w", err)
	}
	m, err := ebpf.NewMap(spec.Maps[bpf.EproxyMapMark])
	if err != nil {
		return fmt.Errorf("make mark: %w", err)
	}
	defer m.Close()
	return pinMark(dir, m, 0)
}
