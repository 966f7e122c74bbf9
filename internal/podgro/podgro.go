package podgro

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
)

// MapName is the map that notes what was switched on, as it is pinned.
const MapName = "pods_gro"

// ErrNotRestored means that GRO stays on at a pod's end that it was switched on at.
var ErrNotRestored = errors.New("GRO stays on")

var (
	errDeclined = errors.New("it was switched off again there since the loader had switched it on")
	errFull     = errors.New("too many pods have it on by the loader")
)

// Switch switches GRO on and off. Its methods are not for several goroutines at a
// time.
type Switch struct{ m *ebpf.Map }

// New makes a Switch that notes what it does in a map, of the kind pods_gro.
func New(m *ebpf.Map) *Switch { return &Switch{m} }

// Try says why GRO could not be switched on at the far end of an interface, and
// changes nothing.
func Try(ifindex int) error {
	e, err := far(ifindex)
	if err != nil {
		return err
	}
	defer e.close()
	_, err = e.gro()
	return err
}

// On switches GRO on at the far end of an interface of this namespace. Where it is
// on already nothing is noted and nothing will be restored; where somebody there
// has switched it off again it stays off, for as long as there is the interface.
func (s *Switch) On(ifindex int) error {
	e, err := far(ifindex)
	if err != nil {
		return err
	}
	defer e.close()
	on, err := e.gro()
	if err != nil || on {
		return err
	}
	key := uint32(ifindex)
	note, known, err := s.note(key)
	if err != nil {
		return err
	}
	if known && same(note, e) {
		note.Declined = 1
		if err := s.m.Put(&key, &note); err != nil {
			return fmt.Errorf("note it: %w", err)
		}
		return errDeclined
	}
	note = bpf.EproxyPodGro{Cookie: e.cookie, Peer: uint32(e.index)}
	if err := s.m.Put(&key, &note); errors.Is(err, unix.E2BIG) {
		return errFull
	} else if err != nil {
		return fmt.Errorf("note it: %w", err)
	}
	if err := e.setGRO(true); err != nil {
		return errors.Join(err, s.forget(key))
	}
	return nil
}

// Has says whether GRO was switched on at the far end of an interface.
func (s *Switch) Has(ifindex int) bool {
	_, known, _ := s.note(uint32(ifindex))
	return known
}

// Keep restores all but what is wanted, by the interfaces' numbers. It returns
// those that it has restored, and why others are not.
func (s *Switch) Keep(wanted func(ifindex int) bool) (restored []int, errs []error) {
	notes, err := s.notes()
	if err != nil {
		return nil, []error{fmt.Errorf("%w where it was switched on: %w", ErrNotRestored, err)}
	}
	for key, note := range notes {
		if wanted(int(key)) {
			continue
		}
		if err := restore(int(key), note); err != nil {
			errs = append(errs, fmt.Errorf("%w at the far end of interface %d: %w", ErrNotRestored, key, err))
			continue
		}
		if err := s.forget(key); err != nil {
			errs = append(errs, err)
			continue
		}
		restored = append(restored, int(key))
	}
	return restored, errs
}

// Restore restores all that was switched on, as the map says. Pods that are gone are
// no error. The error wraps ErrNotRestored if something stays on.
func (s *Switch) Restore() error {
	_, errs := s.Keep(func(int) bool { return false })
	return errors.Join(errs...)
}

// RestorePinned is Restore with a pinned map. That there is none is no error.
func RestorePinned(path string) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w where it was switched on: read where: %w", ErrNotRestored, err)
	}
	defer m.Close()
	return New(m).Restore()
}

// restore switches GRO off where it was switched on, if that is still there.
func restore(ifindex int, note bpf.EproxyPodGro) error {
	if note.Declined != 0 {
		return nil // it is its owner's
	}
	e, err := far(ifindex)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.close()
	if !same(note, e) {
		return nil
	}
	return e.setGRO(false)
}

func same(note bpf.EproxyPodGro, e *end) bool {
	return note.Cookie == e.cookie && note.Peer == uint32(e.index)
}

func (s *Switch) note(key uint32) (note bpf.EproxyPodGro, known bool, err error) {
	err = s.m.Lookup(&key, &note)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return note, false, nil
	}
	if err != nil {
		return note, false, fmt.Errorf("read what was switched on: %w", err)
	}
	return note, true, nil
}

func (s *Switch) notes() (map[uint32]bpf.EproxyPodGro, error) {
	out := make(map[uint32]bpf.EproxyPodGro)
	var key uint32
	var note bpf.EproxyPodGro
	it := s.m.Iterate()
	for it.Next(&key, &note) {
		out[key] = note
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read what was switched on: %w", err)
	}
	return out, nil
}

func (s *Switch) forget(key uint32) error {
	if err := s.m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget what was switched on: %w", err)
	}
	return nil
}
