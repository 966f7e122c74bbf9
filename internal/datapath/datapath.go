package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"eproxy/internal/bpf"
	"eproxy/internal/pindir"
	"eproxy/internal/podgro"
	"eproxy/internal/privilege"
)

// ErrRefused is returned by Load when the kernel does not take the programs or
// their maps.
var ErrRefused = errors.New("load BPF programs")

// Datapath is what eproxy has in the kernel.
type Datapath struct {
	// Objects are the programs and maps, Spec is what the maps and variables were
	// made from, with the sizes that were asked for, and Pipeline the most requests
	// in flight on one slot that the programs can have.
	Objects  bpf.EproxyObjects
	Spec     *ebpf.CollectionSpec
	Pipeline uint32

	log  *slog.Logger
	dir  string // pins, under bpffs
	lock *os.File

	mu       sync.Mutex
	attached map[string]attachment // by pin name
	sites    map[site]bool         // of those
}

// Options of Load.
type Options struct {
	Dir    string            // of the pins
	Sizes  map[string]uint32 // entries of maps, by name
	Knobs  map[string]uint32 // variables of the programs, by name
	Logger *slog.Logger
}

// Load creates the maps, loads the programs, and pins both under Dir: into a
// temporary directory first, renamed into place when all is there. Pins that a
// dead loader left are removed. It returns ErrRunning if a living one holds them,
// and after any error nothing is left.
func Load(o Options) (*Datapath, error) {
	if err := privilege.Check(); err != nil {
		return nil, fmt.Errorf("loading BPF programs %w", err)
	}
	if err := pindir.CheckParent(o.Dir); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift memlock limit: %w", err)
	}
	lock, err := acquireLock(lockName(o.Dir))
	if err != nil {
		return nil, err
	}
	if err := Unpin(o.Dir); errors.Is(err, podgro.ErrNotRestored) {
		o.Logger.Warn("an earlier loader had changed pods' interfaces", "error", err)
	} else if err != nil {
		lock.Close()
		return nil, fmt.Errorf("remove what an earlier loader left: %w", err)
	}
	d := &Datapath{log: o.Logger, dir: o.Dir, lock: lock, attached: make(map[string]attachment), sites: make(map[site]bool)}
	if err := d.load(o); err != nil {
		if derr := d.Detach(); derr != nil {
			d.log.Error("detaching", "error", derr)
		}
		return nil, err
	}
	return d, nil
}

func (d *Datapath) load(o Options) (err error) {
	object := bpf.Choose()
	d.Pipeline = object.Pipeline
	if d.Spec, err = object.Load(); err != nil {
		return fmt.Errorf("read BPF object: %w", err)
	}
	for name, n := range o.Sizes {
		d.Spec.Maps[name].MaxEntries = n
	}
	for name, v := range o.Knobs {
		if err := d.Spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := d.Spec.LoadAndAssign(&d.Objects, nil); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			d.log.Debug("verifier", "log", fmt.Sprintf("%+v", ve))
		}
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	// The programs are in the kernel. Their instructions and types, several times as large
	// as all else that this process keeps, are of no more use.
	d.Spec.Programs, d.Spec.Types = nil, nil
	return d.pinAll()
}

// Dir is the directory of the pins.
func (d *Datapath) Dir() string { return d.dir }

// Close gives up what this process holds. Pins and attachments stay, so that open
// connections remain truthful; Detach and Unload remove them.
func (d *Datapath) Close() {
	d.release()
	_ = d.lock.Close() // and with it the lock
}

// Detach is Close, and nothing stays attached or pinned. No other loader can
// start before that is so.
func (d *Datapath) Detach() error {
	d.release()
	defer d.lock.Close()
	return Unpin(d.dir)
}

func (d *Datapath) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.attached {
		_ = a.link.Close()
	}
	_ = d.Objects.Close()
}
