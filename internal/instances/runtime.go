package instances

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/cgroup"
	"eproxy/internal/lograte"
)

// top is the cgroup that holds those of all loaders of this machine.
const top = "eproxy"

// Options are what a Runtime is made with.
type Options struct {
	ID        string                                           // of this loader, different from others on this machine; a file name
	Dir       string                                           // for files, exists
	Addresses netip.Prefix                                     // of instances
	Memory    int64                                            // bytes that they have together; 0: each has its own limit alone
	Answered  func(function string, pod netip.AddrPort) uint64 // requests that were answered in the kernel; nil: none
	// Rest has an idle pod sleep in service (slots.Pods.Rest); a nil Rest: it cannot. nil: none can.
	Rest   func(function string, pod netip.AddrPort, wake func()) (r Rest, busy bool)
	Logger *slog.Logger
}

// Runtime runs the instances of a loader.
type Runtime struct {
	id     string
	log    *slog.Logger
	often  *lograte.Logger
	groups *cgroup.Hierarchies
	// noGroups is why there are none; nil: there are.
	noGroups  error
	network   network
	budget    budget
	starter   *starter
	hurry     chan struct{}
	resolvers []string      // files where this machine's name servers may stand
	files     string        // path of the name servers that instances have
	changed   chan struct{} // sent to when Instances may say something else

	preparing sync.Mutex
	prepared  bool
	closed    chan struct{} // closed by Close
	resolv    string        // as the Order has it

	answered func(string, netip.AddrPort) uint64
	rest     func(string, netip.AddrPort, func()) (Rest, bool)
	load     atomic.Pointer[func(string) Load] // nil: not known
	asked    sync.Map                          // *atomic.Uint64 by function: requests from userspace
	zygotes  atomic.Int64                      // that were begun

	mu    sync.Mutex
	used  map[int]*instance    // by number
	known map[string]*function // by name; of each that is followed
}

// New makes a Runtime and removes what a loader of the same ID left when it was killed.
// Nothing else is done before there is a function to run.
func New(o Options) *Runtime {
	groups, err := cgroup.Find()
	r := &Runtime{noGroups: err, id: o.ID, log: o.Logger, often: lograte.New(o.Logger), groups: groups, starter: newStarter(), hurry: make(chan struct{}), closed: make(chan struct{}),
		network: network{o.Addresses, table(o.ID), mark(o.ID)}, budget: newBudget(o.Memory), resolvers: resolvFiles, files: files(o.Dir, o.ID), changed: make(chan struct{}, 1), answered: o.Answered, rest: o.Rest, used: make(map[int]*instance), known: make(map[string]*function)}
	if err != nil { // which is nothing to a loader that has no function to run
		return r
	}
	if err := sweep(groups, o.ID, r.files); err != nil {
		o.Logger.Warn("something of an earlier run's instances stays", "error", err)
	}
	return r
}

// ID is that of the loader that pins its maps in this directory.
func ID(bpffs string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(bpffs)))
	return filepath.Base(bpffs) + "-" + hex.EncodeToString(sum[:3])
}

// files is the path of a loader's file of name servers.
func files(dir, id string) string { return filepath.Join(dir, id+".resolv.conf") }

// table is the name of a loader's table of nftables.
func table(id string) string { return "eproxy-" + id }

// prepare makes what all instances need, once.
func (r *Runtime) prepare() error {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	if r.noGroups != nil {
		return fmt.Errorf("find cgroups: %w", r.noGroups)
	}
	if r.prepared {
		return r.guard()
	}
	if err := r.network.prepare(); err != nil {
		return err
	}
	var err error
	if r.resolv, err = writeResolv(r.files, r.resolvers); err != nil {
		return err
	}
	if why := unforwarded(); why != "" {
		r.log.Warn(why)
	}
	r.prepared = true
	go r.every(guardInterval, r.keep)
	if r.budget.limit > 0 {
		go r.every(budgetLook, r.keepBudget)
	}
	return nil
}

// guardInterval is how often it is looked whether the rules for instances are there.
const guardInterval = 5 * time.Second

// every does something at intervals until Close.
func (r *Runtime) every(interval time.Duration, do func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-r.closed:
			return
		case <-t.C:
			do()
		}
	}
}

// keep looks after the rules and the name servers: whoever flushes nftables' ruleset takes the rules along, and with them what
// keeps instances from this machine and from each other.
func (r *Runtime) keep() {
	r.preparing.Lock()
	defer r.preparing.Unlock()
	if err := r.guard(); err != nil {
		r.often.Warn("instances are not kept from this machine and from each other", "rules", "error", err)
	}
	if err := r.follow(); err != nil {
		r.often.Warn("instances have the name servers of before", "resolv", "error", err)
	}
}

// guard makes the rules for instances again if somebody has removed them; r.preparing is held.
func (r *Runtime) guard() error {
	select {
	case <-r.closed:
		return nil
	default:
	}
	there, err := r.network.filtered()
	if err != nil || there {
		return err
	}
	r.log.Warn("somebody has removed the rules for instances, they are made again", "table", r.network.table)
	return r.network.filter()
}

// Instances are all instances, by function and number.
func (r *Runtime) Instances() []Status {
	r.mu.Lock()
	out := []Status{}
	for _, i := range r.used {
		out = append(out, i.status)
	}
	r.mu.Unlock()
	for n := range out {
		s := &out[n]
		s.Used = r.groups.At(top, r.id, fmt.Sprintf("%d-%s", s.Instance, s.Function)).MemoryUsed()
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Instance, b.Instance))
	})
	return out
}

// EachInstances says how many instances of each function are in each state that there is one in, and the memory that they have.
func (r *Runtime) EachInstances(each func(function, state string, instances int, memory int64)) {
	type key struct {
		function string
		state    State
	}
	n, memory := make(map[key]int), make(map[key]int64)
	for _, s := range r.Instances() {
		k := key{s.Function, s.State}
		n[k]++
		memory[k] += s.Used
	}
	for k := range n {
		each(k.function, string(k.state), n[k], memory[k])
	}
}

// Measure has load asked for what a function has to do. Before it is, only messages without a pod are known of.
func (r *Runtime) Measure(load func(function string) Load) { r.load.Store(&load) }

// Changed is sent to when an instance has come into another state.
func (r *Runtime) Changed() <-chan struct{} { return r.changed }

// Hurry has instances that are to stop wait for their connections no more.
func (r *Runtime) Hurry() { close(r.hurry) }

// Close removes what all instances shared; every Follow must have returned.
func (r *Runtime) Close() error {
	r.starter.close()
	r.preparing.Lock()
	close(r.closed)
	r.preparing.Unlock()
	r.often.Close()
	if r.noGroups != nil {
		return nil
	}
	r.groups.At(top, r.id).Kill()
	err := r.groups.At(top, r.id).Remove()
	r.groups.At(top).RemoveIfEmpty()
	if !r.prepared {
		return err
	}
	return errors.Join(err, r.network.unfilter(), removeFile(r.files))
}

// Unload removes what a loader left that was killed. Its instances have died with it.
func Unload(id, dir string) error {
	groups, err := cgroup.Find()
	if err != nil {
		return nil // where there are none, none was made
	}
	return sweep(groups, id, files(dir, id))
}

// sweep removes what a loader's instances have left, if it had any: then there is their
// cgroup.
func sweep(groups *cgroup.Hierarchies, id, resolv string) error {
	group := groups.At(top, id)
	if !group.Exists() {
		return nil
	}
	group.Kill() // a process may have seen to it that it does not die with its loader
	err := errors.Join((&network{table: table(id)}).unfilter(), removeFile(resolv))
	if err != nil {
		return err // the cgroup stays, too: the next one to look finds it
	}
	err = group.Remove()
	groups.At(top).RemoveIfEmpty()
	return err
}

func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
