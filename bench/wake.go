package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/instances"
	"eproxy/test/lib/idlers"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

// wakeCommand measures what it costs that functions sleep.
func wakeCommand() *cli.Command {
	return &cli.Command{
		Name: "wake", Usage: "latency from PUBLISH to PUBACK where the message wakes a frozen function, beside one that finds it awake, and processor time while all sleep",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "functions", Value: 50, Usage: "half of them in Go, half in Node"},
			&cli.IntFlag{Name: "rounds", Value: 20, Usage: "wakes of each function"},
			&cli.DurationFlag{Name: "frozen", Value: time.Second, Usage: "how long all are frozen before each round"},
			&cli.DurationFlag{Name: "idle", Value: 10 * time.Second, Usage: "how long processor time is measured"},
		},
		Action: func(c *cli.Context) error { return inLab(c, (*bench).wakes) },
	}
}

// pause lies between two messages, so that none meets what the one before has left to do.
const pause = 20 * time.Millisecond

// wakeKind is a kind of functions with what was measured of it.
type wakeKind struct {
	name         string
	woken, awake []time.Duration // from PUBLISH to PUBACK
}

// wakes measures wake-ups.
func (b *bench) wakes() (err error) {
	n := b.c.Int("functions")
	config, err := b.sleepingConfig(n)
	if err != nil {
		return err
	}
	p, err := b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: rowTC, Config: config})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	device := load.MQTT{Dial: func(ctx context.Context) (net.Conn, error) {
		return b.lab.Dial(ctx, lab.Dev, lab.NodeAddr(false).String()+":1883")
	}, Topic: topic, Payload: 64}
	devices := make([]load.Conn, n)
	for i := range devices {
		if devices[i], err = device.Open(b.c.Context, i); err != nil {
			return err
		}
		defer devices[i].Close()
	}
	kinds := []*wakeKind{{name: "go"}, {name: "node"}}
	for round := range b.c.Int("rounds") + 1 {
		if round > 0 { // before, none has had a request
			if err := idlers.Reach(b.c.Context, b.lab.BPFFS(), instances.Frozen, n); err != nil {
				return err
			}
			time.Sleep(b.c.Duration("frozen"))
		}
		for i, d := range devices {
			woken, awake, err := wakeOne(d, 2*round)
			if err != nil {
				return fmt.Errorf("function %d, round %d: %w", i, round, err)
			}
			if k := kinds[i%2]; round > 0 {
				k.woken, k.awake = append(k.woken, woken), append(k.awake, awake)
			}
		}
	}
	for _, k := range kinds {
		k.print(b.c.App.Writer)
	}
	return b.asleep(p, n)
}

// wakeOne sends message m, which finds the function frozen, and the next one, which finds it awake.
func wakeOne(d load.Conn, m int) (woken, awake time.Duration, err error) {
	for i, took := range []*time.Duration{&woken, &awake} {
		began := time.Now()
		if err := d.Send(m + i); err != nil {
			return 0, 0, err
		}
		if _, err := d.Receive(); err != nil {
			return 0, 0, err
		}
		*took = time.Since(began)
		time.Sleep(pause)
	}
	return woken, awake, nil
}

// print prints the kind's row.
func (k *wakeKind) print(w io.Writer) {
	slices.Sort(k.woken)
	slices.Sort(k.awake)
	at := func(all []time.Duration, q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return all[int(q*float64(len(all)-1))].Seconds() * 1000
	}
	fmt.Fprintf(w, "%-4s %4d wakes: PUBLISH to PUBACK ms, frozen p50 %.2f p99 %.2f, awake p50 %.2f p99 %.2f\n",
		k.name, len(k.woken), at(k.woken, 0.5), at(k.woken, 0.99), at(k.awake, 0.5), at(k.awake, 0.99))
}

// asleep prints what the loader and the functions use while all are frozen.
func (b *bench) asleep(p *lab.Process, n int) error {
	if err := idlers.Reach(b.c.Context, b.lab.BPFFS(), instances.Frozen, n); err != nil {
		return err
	}
	before, err := p.Busy()
	if err != nil {
		return err
	}
	span := b.c.Duration("idle")
	time.Sleep(span)
	after, err := p.Busy()
	if err != nil {
		return err
	}
	fmt.Fprintf(b.c.App.Writer, "%d functions frozen: the loader uses %.3f %% of a processor, they use none\n", n, 100*(after-before).Seconds()/span.Seconds())
	return nil
}

// nodeFunction is the function in Node.
const nodeFunction = "require('http').createServer((q, s) => q.resume().on('end', () => s.end('ok'))).listen(process.env.PORT)"

// sleepingConfig has so many functions that are frozen after a second, in Go and in Node by turns.
func (b *bench) sleepingConfig(n int) (string, error) {
	self, err := idlers.Copy(b.dir)
	if err != nil {
		return "", err
	}
	var functions, routes strings.Builder
	for i := range n {
		command := fmt.Sprintf("[/bin/sh, -c, %q]", "exec "+self+" function 2>/dev/null") // which says that it serves, as the loader does
		if i%2 == 1 {
			command = fmt.Sprintf("[node, -e, %q]", nodeFunction)
		}
		fmt.Fprintf(&functions, "  - {name: f%d, url: \"http://f%d.local/\", run: {command: %s, idle: 1s}}\n", i, i, command)
		fmt.Fprintf(&routes, "  - {topic: %s, function: f%d}\n", topic(i), i)
	}
	return "functions:\n" + functions.String() + "routes:\n" + routes.String(), nil
}
