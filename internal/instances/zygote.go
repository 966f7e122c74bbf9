package instances

import (
	"context"
	_ "embed" // zygote.py
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/cgroup"
	"eproxy/internal/instances/stage"
)

// zygoteProgram is what a zygote's interpreter runs.
//
//go:embed zygote.py
var zygoteProgram []byte

const (
	// keeperMemory and keeperPIDs limit the process that has started a zygote and waits for how its children end.
	keeperMemory = 64 << 20
	keeperPIDs   = 64
	// maxReport is more than what a zygote or an instance of it says at a time, in bytes.
	maxReport = 4096
	// maxReports bounds how often a zygote may say anything: it names each module that it imports.
	maxReports = 4096
	// lastWords is how long what a zygote has said is read after its end, where others hold its socket.
	lastWords = time.Second
	// zygoteRest is how long a zygote waits for the next instance to be asked for, until it is frozen.
	zygoteRest = time.Second
	// maxStrays bounds how many ends of processes are remembered of which nothing is known yet.
	maxStrays = 64
)

// zygote is a process that a function's instances are forked from. It has imported what the function's program
// would, in a sandbox as theirs, without a network.
type zygote struct {
	r       *Runtime
	n       *nursery
	group   *cgroup.Group // of the zygote
	keepers *cgroup.Group // of the keeper, apart: what is frozen says nothing
	keeper  *process      // the first of its PID namespace
	socket  *os.File      // the keeper's
	ends    *json.Decoder // what comes by it
	space   string        // that PID namespace
	begun   time.Time
	ready   chan struct{} // closed when it has imported everything
	gone    chan struct{} // closed when it has ended; why says more

	turn    sync.Mutex // held while an instance is forked, or it is frozen
	control *net.UnixConn
	freezer *cgroup.Freezer // nil: it is never frozen
	later   *time.Timer     // nil: it has not been ready

	mu        sync.Mutex
	pid       int    // here; 0: it has not said anything yet
	importing string // the module that it imports
	why       string // it ends, or has; empty: nothing is known
	stale     bool   // that is because a file has changed
	asleep    bool
	self      *child
	killed    int            // processes that the memory limit of its group had cost before
	children  map[int]*child // the keeper's, by the process ID that it knows; nil: it has ended
	forking   bool           // one may end that is not known yet
	strays    []stage.Ended  // that have
}

// child is a process whose end the keeper sees.
type child struct {
	ended  chan struct{}
	status syscall.WaitStatus // how; ended is closed
}

// report is what a zygote says.
type report struct {
	Importing string `json:"importing"`
	Ready     bool   `json:"ready"`
	Failed    string `json:"failed"`
	Changed   string `json:"changed"`
}

// wish is what a zygote is told first.
type wish struct {
	Imports  []string `json:"imports"` // nil: those that its program begins with
	ReadOnly bool     `json:"read_only"`
	Began    int64    `json:"began"` // before it has read anything, nanoseconds since 1970
}

// conceive starts a zygote, which is ready, or gone, a little later; ctx ends the wait for its keeper.
func (r *Runtime) conceive(ctx context.Context, n *nursery, number int) (*zygote, error) {
	run := n.s.run
	who, err := lookup(run.User)
	if err != nil {
		return nil, err
	}
	z := &zygote{r: r, n: n, begun: time.Now(), importing: "nothing yet", ready: make(chan struct{}), gone: make(chan struct{}), children: make(map[int]*child)}
	z.group = r.groups.At(top, r.id, fmt.Sprintf("z%d-%s", number, n.s.name))
	z.keepers = r.groups.At(top, r.id, fmt.Sprintf("k%d-%s", number, n.s.name))
	err = errors.Join(z.group.Make(cgroup.Limits{Memory: run.Memory, CPU: run.CPU, PIDs: maxPIDs}),
		z.keepers.Make(cgroup.Limits{Memory: keeperMemory, PIDs: keeperPIDs}))
	if err == nil {
		err = z.launch(ctx, who)
	}
	if err != nil {
		return nil, errors.Join(err, z.clear())
	}
	z.freezer, _ = z.group.Freezer()
	n.exists(z)
	n.running.Go(z.follow)
	n.running.Go(z.hear)
	return z, nil
}

// launch starts the keeper, and has it start the zygote.
func (z *zygote) launch(ctx context.Context, who account) error {
	ours, theirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	control, of, err := channel()
	if err != nil {
		return errors.Join(err, ours.Close(), theirs.Close())
	}
	z.socket, z.control = ours, control
	z.keeper, err = z.r.launch(stage.ZygoteName, z.keepers, z.says("stdout"), z.says("stderr"), theirs, of)
	if err == nil {
		if err = z.order(ctx, who); err == nil {
			return nil
		}
		z.keeper.kill()
		<-z.keeper.done
	}
	ours.Close()
	control.Close()
	return err
}

// order tells the keeper and the zygote what to do, and waits until the latter is started.
func (z *zygote) order(ctx context.Context, who account) error {
	run := z.n.s.run
	if err := z.group.Add(z.keeper.pid); err != nil { // for what it starts
		return err
	}
	if _, err := z.control.Write(zygoteProgram); err != nil {
		return err
	}
	w, err := json.Marshal(wish{run.Imports, run.ReadOnly, z.begun.UnixNano()})
	if err != nil {
		return err
	}
	if _, err := z.control.Write(w); err != nil {
		return err
	}
	if err := z.socket.SetDeadline(time.Now().Add(run.Start)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = z.socket.SetDeadline(time.Unix(1, 0)) })
	if err := json.NewEncoder(z.socket).Encode(z.r.orderOf(run, who)); err != nil {
		return err
	}
	z.ends = json.NewDecoder(z.socket)
	var x struct {
		stage.Begun
		stage.Failure
	}
	if err := z.ends.Decode(&x); err != nil {
		return fmt.Errorf("its namespaces and files are not ready for it: %w", err)
	}
	if x.Message != "" {
		return errors.New(x.Message)
	}
	z.killed = z.group.OOMKills()
	if z.self, err = z.adopt(x.Zygote); err != nil {
		return err
	}
	if z.space, err = pidNamespace(z.keeper.pid); err != nil {
		return err
	}
	if !stop() {
		return ctx.Err()
	}
	return errors.Join(z.keepers.Add(z.keeper.pid), z.socket.SetDeadline(time.Time{}))
}

// end ends the zygote, and not its instances.
func (z *zygote) end() { z.group.Kill() }

// clear removes what it leaves.
func (z *zygote) clear() error {
	if z.freezer != nil {
		z.freezer.Close()
	}
	return errors.Join(z.group.Remove(), z.keepers.Remove())
}

// says logs what the zygote writes to a stream.
func (z *zygote) says(stream string) *lines {
	return z.r.says(stream, "function", z.n.s.name, "zygote", true)
}

// channel makes a socket of packets, on which the kernel says which process has sent one (unix(7), SO_PASSCRED).
func channel() (ours *net.UnixConn, theirs *os.File, err error) {
	near, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	defer near.Close()
	err = unix.SetsockoptInt(int(near.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		var c net.Conn
		if c, err = net.FileConn(near); err == nil {
			return c.(*net.UnixConn), theirs, nil //nolint:forcetypeassert // of such a file
		}
	}
	theirs.Close()
	return nil, nil, err
}
