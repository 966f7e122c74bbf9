package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

// The functions of `bench changes`: some whose pods stay, and some of one pod each that is
// replaced by another one and back.
const (
	steadyPods  = 50 // of each steady function
	changesPort = 20000
)

// changesCommand measures what changes of pods take, and cost messages for other functions.
func changesCommand() *cli.Command {
	return &cli.Command{
		Name: "changes", Usage: "from naming a pod in a file to the first message on it, and what that costs messages for others, with many pods and routes",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "mode", Value: rowTC, Usage: "tc or xdp"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "without changes, and then with them `N` times"},
			&cli.DurationFlag{Name: "duration", Value: 3 * time.Second, Usage: "length of each"},
			&cli.IntFlag{Name: "steady", Value: 19, Usage: "functions with 50 pods each, which stay `N`"},
			&cli.IntFlag{Name: "moving", Value: 50, Usage: "functions of one pod each, which is replaced once a second `N`"},
			&cli.IntFlag{Name: "routes", Value: 10000, Usage: "routes `N`"},
			&cli.DurationFlag{Name: "pause", Value: 15 * time.Millisecond, Usage: "between two messages for one function"},
		},
		Action: func(c *cli.Context) error { return inLab(c, (*bench).changes) },
	}
}

// changes is one measurement.
type changes struct {
	*bench
	steady, moving int
	named          []atomic.Int64 // by pod: when a file began to name it, which had no message since, Unix nanoseconds
	on             atomic.Bool    // pods change now

	mu    sync.Mutex
	first []time.Duration          // from then to the first message
	took  map[bool][]time.Duration // acknowledgements of functions whose pods stay, by whether others' change
	err   error                    // of what ran beside
}

func (b *bench) changes() (err error) {
	x := &changes{bench: b, steady: b.c.Int("steady"), moving: b.c.Int("moving"), took: make(map[bool][]time.Duration)}
	x.named = make([]atomic.Int64, x.steady*steadyPods+2*x.moving)
	for i := range x.named {
		stop, err := x.serve(i)
		if err != nil {
			return err
		}
		defer stop()
	}
	for k := range x.moving {
		if err := x.name(k, 0); err != nil {
			return err
		}
	}
	p, err := b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: filepath.Dir(b.self), Mode: b.c.String("mode"), Config: x.config()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	before, err := p.Busy()
	if err != nil {
		return err
	}
	spent, err := x.run(p)
	if err != nil {
		return err
	}
	after, err := p.Busy()
	if err != nil {
		return err
	}
	x.print(spent, after-before)
	return nil
}

// address is where a pod is; every second one is at the other host.
func (x *changes) address(i int) (lab.Role, string) {
	role := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
	return role, net.JoinHostPort(lab.PodAddr(role, false).String(), fmt.Sprint(changesPort+i))
}

// serve runs a pod, which notes its first message since it was named.
func (x *changes) serve(i int) (stop func(), err error) {
	role, address := x.address(i)
	ln, err := x.lab.Listen(role, address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if since := x.named[i].Swap(0); since != 0 {
			took := time.Duration(time.Now().UnixNano() - since)
			x.mu.Lock()
			defer x.mu.Unlock()
			x.first = append(x.first, took)
		}
	})}
	go func() { _ = server.Serve(ln) }()
	return func() { _ = server.Close() }, nil
}

// file is that of a moving function.
func (x *changes) file(k int) string { return filepath.Join(x.dir, fmt.Sprint("pods-", k)) }

// name has a moving function's file name one of its two pods.
func (x *changes) name(k, which int) error {
	_, a := x.address(x.steady*steadyPods + 2*k + which)
	next := x.file(k) + ".next"
	if err := os.WriteFile(next, []byte("- "+a+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, x.file(k))
}

// config has the functions, a topic for each, and routes beside.
func (x *changes) config() string {
	var functions, routes strings.Builder
	functions.WriteString("limits: {pods: 4096}\nfunctions:\n")
	for i := range x.steady {
		var pods []string
		for n := range steadyPods {
			_, a := x.address(i*steadyPods + n)
			pods = append(pods, fmt.Sprintf("%q", a))
		}
		fmt.Fprintf(&functions, "  - {name: f%d, url: \"http://f.local/\", pods: [%s]}\n", i, strings.Join(pods, ", "))
	}
	for k := range x.moving {
		fmt.Fprintf(&functions, "  - {name: f%d, url: \"http://f.local/\", discover: {file: %q}, retry: {attempts: 50, backoff: 10ms, max_backoff: 50ms}}\n", x.steady+k, x.file(k))
	}
	routes.WriteString("routes:\n")
	for i := range x.steady + x.moving {
		fmt.Fprintf(&routes, "  - {topic: go/%d, function: f%d}\n", i, i)
	}
	for i := range x.c.Int("routes") - x.steady - x.moving {
		fmt.Fprintf(&routes, "  - {topic: site/%d/+/temp, function: f%d}\n", i, i%x.steady)
	}
	return functions.String() + routes.String()
}

// run makes load on all functions, and changes in every second part of the time. It returns
// the loader's processor time in these.
func (x *changes) run(p *lab.Process) (spent time.Duration, err error) {
	ctx, stop := context.WithCancel(x.c.Context)
	var devices sync.WaitGroup
	for i := range x.steady + x.moving {
		devices.Go(func() { x.note(x.device(ctx, i)) })
	}
	turn := make([]int, x.moving)
	for range x.c.Int("rounds") {
		time.Sleep(x.c.Duration("duration"))
		before, berr := p.Busy()
		x.on.Store(true)
		x.note(x.move(turn))
		x.on.Store(false)
		after, aerr := p.Busy()
		spent += after - before
		err = errors.Join(err, berr, aerr)
	}
	stop()
	devices.Wait()
	return spent, errors.Join(err, x.err)
}

// note keeps the first error.
func (x *changes) note(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = cmp.Or(x.err, err)
}

// device publishes to a function until ctx ends.
func (x *changes) device(ctx context.Context, i int) error {
	c, err := load.MQTT{Topic: func(i int) string { return fmt.Sprint("go/", i) }, Payload: 64, Dial: func(ctx context.Context) (net.Conn, error) {
		return x.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	}}.Open(ctx, i)
	if err != nil {
		return err
	}
	defer c.Close()
	pause := time.NewTicker(x.c.Duration("pause"))
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		changing, began := x.on.Load(), time.Now()
		if err := c.Send(n); err != nil {
			return err
		}
		for ended := []int(nil); len(ended) == 0; {
			if ended, err = c.Receive(); err != nil {
				return err
			}
		}
		if took := time.Since(began); i < x.steady {
			x.mu.Lock()
			x.took[changing] = append(x.took[changing], took)
			x.mu.Unlock()
		}
	}
}

// settleLimit is how long a pod may take to have its first message.
const settleLimit = 10 * time.Second

// move replaces the pod of each moving function by its other one, each once a second, for a while, and waits
// until each of them has had a message.
func (x *changes) move(turn []int) error {
	pause := time.NewTicker(time.Second / time.Duration(x.moving))
	defer pause.Stop()
	end := time.Now().Add(x.c.Duration("duration"))
	for n := 0; time.Now().Before(end); n++ {
		<-pause.C
		k := n % x.moving
		turn[k] ^= 1
		x.named[x.steady*steadyPods+2*k+turn[k]].Store(time.Now().UnixNano())
		if err := x.name(k, turn[k]); err != nil {
			return err
		}
	}
	for end := time.Now().Add(settleLimit); x.waits(turn); <-pause.C {
		if time.Now().After(end) {
			return fmt.Errorf("a pod had no message %s after it was named", settleLimit)
		}
	}
	return nil
}

// waits says whether some pod that is named had no message yet.
func (x *changes) waits(turn []int) bool {
	for k, t := range turn {
		if x.named[x.steady*steadyPods+2*k+t].Load() != 0 {
			return true
		}
	}
	return false
}

// print says how long things took; spent is the loader's processor time while pods changed, all that of the
// whole measurement.
func (x *changes) print(spent, all time.Duration) {
	w := x.c.App.Writer
	fmt.Fprintf(w, "%d pods, %d routes, %d changes, %d a second; from naming a pod to its first message: %s\n",
		x.steady*steadyPods+x.moving, x.c.Int("routes"), len(x.first), x.moving, quantiles(x.first))
	fmt.Fprintf(w, "acknowledgements of functions whose pods stay, without changes: %s\n", quantiles(x.took[false]))
	fmt.Fprintf(w, "                                               and with them: %s\n", quantiles(x.took[true]))
	fmt.Fprintf(w, "the loader's processor time, per change: %s\n", (spent-(all-spent))/time.Duration(max(len(x.first), 1)))
}

// quantiles says how long things took.
func quantiles(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[min(int(q*float64(len(took))), len(took)-1)].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, longest %s", at(0.5), at(0.99), at(0.999), at(1))
}
