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
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "without changes and with them, or with them first, `N` times"},
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
	turn           []int          // which of its pods each moving function has

	mu     sync.Mutex
	first  []time.Duration // from then to the first message
	now    *half           // nil: nothing is noted
	rounds []round
	err    error // of what ran beside
}

func (b *bench) changes() (err error) {
	x := &changes{bench: b, steady: b.c.Int("steady"), moving: b.c.Int("moving"), turn: make([]int, b.c.Int("moving"))}
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
	p, err := b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: b.c.String("mode"), Config: x.config()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := x.run(p); err != nil {
		return err
	}
	x.print()
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
	if err := os.WriteFile(next, []byte(`["`+a+`"]`), 0o600); err != nil {
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

// run makes load on all functions, and changes in one half of each round.
func (x *changes) run(p *lab.Process) error {
	ctx, stop := context.WithCancel(x.c.Context)
	var devices sync.WaitGroup
	for i := range x.steady + x.moving {
		devices.Go(func() { x.note(x.device(ctx, i)) })
	}
	time.Sleep(x.c.Duration("duration") / 2) // until all are connected
	for n := range x.c.Int("rounds") {
		r := round{}
		for i := range 2 {
			changing := (i + n) % 2 // nobody always comes first
			x.note(x.half(p, &r[changing], changing == 1))
		}
		x.rounds = append(x.rounds, r)
	}
	stop()
	devices.Wait()
	return x.err
}

// half makes one half of a round.
func (x *changes) half(p *lab.Process, m *half, changing bool) error {
	before, err := p.Busy()
	if err != nil {
		return err
	}
	x.enter(m)
	if changing {
		err = x.move()
	} else {
		time.Sleep(x.c.Duration("duration"))
	}
	x.enter(nil)
	after, berr := p.Busy()
	m.spent = after - before
	return errors.Join(err, berr)
}

// enter has what follows noted as of a half.
func (x *changes) enter(m *half) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.now = m
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
		began := time.Now()
		if err := c.Send(n); err != nil {
			return err
		}
		for ended := []int(nil); len(ended) == 0; {
			if ended, err = c.Receive(); err != nil {
				return err
			}
		}
		x.answered(i, time.Since(began))
	}
}

// answered notes what an acknowledgement of a function took.
func (x *changes) answered(i int, took time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.now == nil:
	case i < x.steady:
		x.now.steady = append(x.now.steady, took)
	default:
		x.now.moving = append(x.now.moving, took)
	}
}

// settleLimit is how long a pod may take to have its first message.
const settleLimit = 10 * time.Second

// move replaces the pod of each moving function by its other one, each once a second, for a while, and waits
// until each of them has had a message.
func (x *changes) move() error {
	pause := time.NewTicker(time.Second / time.Duration(x.moving))
	defer pause.Stop()
	end := time.Now().Add(x.c.Duration("duration"))
	for n := 0; time.Now().Before(end); n++ {
		<-pause.C
		k := n % x.moving
		x.turn[k] ^= 1
		x.named[x.steady*steadyPods+2*k+x.turn[k]].Store(time.Now().UnixNano())
		if err := x.name(k, x.turn[k]); err != nil {
			return err
		}
	}
	for end := time.Now().Add(settleLimit); x.waits(); <-pause.C {
		if time.Now().After(end) {
			return fmt.Errorf("a pod had no message %s after it was named", settleLimit)
		}
	}
	return nil
}

// waits says whether some pod that is named had no message yet.
func (x *changes) waits() bool {
	for k, t := range x.turn {
		if x.named[x.steady*steadyPods+2*k+t].Load() != 0 {
			return true
		}
	}
	return false
}
