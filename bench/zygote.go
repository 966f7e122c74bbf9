package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/control"
	"eproxy/internal/instances"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

// zygoteCommand measures what a zygote spares.
func zygoteCommand() *cli.Command {
	return &cli.Command{
		Name: "zygote", Usage: "cold starts in Python, forked from a zygote beside started plainly: from the start to listening, and from PUBLISH to PUBACK",
		Flags:  []cli.Flag{&cli.IntFlag{Name: "rounds", Value: 20, Usage: "interleaved rounds `N`"}},
		Action: func(c *cli.Context) error { return inLab(c, (*bench).zygotes) },
	}
}

// coldKind is a function that has no instance when its message comes.
type coldKind struct {
	name    string
	imports string // beside those of an HTTP server
	zygote  bool

	starts, answers []time.Duration // to listening; from PUBLISH to PUBACK
	memory          []int64         // of the zygote, bytes
}

// heavy are modules of Python's own library that take as long to import as a framework does.
const heavy = "import asyncio, concurrent.futures, ctypes, decimal, email.mime.multipart, logging.config, multiprocessing, sqlite3, ssl, unittest.mock, urllib.request, xml.etree.ElementTree\n"

// zygotes measures cold starts.
func (b *bench) zygotes() (err error) {
	kinds := []*coldKind{{name: "few imports, plain"}, {name: "few imports, forked", zygote: true},
		{name: "many imports, plain", imports: heavy}, {name: "many imports, forked", imports: heavy, zygote: true}}
	p, err := b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: rowTC, Config: coldConfig(kinds)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	device := load.MQTT{Dial: func(ctx context.Context) (net.Conn, error) {
		return b.lab.Dial(ctx, lab.Dev, lab.NodeAddr(false).String()+":1883")
	}, Topic: topic, Payload: 64}
	devices := make([]load.Conn, len(kinds))
	for i := range devices {
		if devices[i], err = device.Open(b.c.Context, i); err != nil {
			return err
		}
		defer devices[i].Close()
	}
	before := loadAverage()
	for round := range b.c.Int("rounds") + 1 { // the first has no zygote yet
		for n := range kinds {
			i := (round + n) % len(kinds)
			if err := b.cold(p, kinds[i], i, devices[i], round); err != nil {
				return fmt.Errorf("%s, round %d: %w", kinds[i].name, round, err)
			}
		}
	}
	printCold(b.c.App.Writer, kinds)
	_, err = fmt.Fprintf(b.c.App.Writer, "load of the machine before and after: %s, %s\n", before, loadAverage())
	return err
}

// cold has a function without an instance get a message, as soon as it has none.
func (b *bench) cold(p *lab.Process, k *coldKind, i int, d load.Conn, round int) error {
	z, err := b.stopped(fmt.Sprintf("f%d", i))
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.Send(round); err != nil {
		return err
	}
	if _, err := d.Receive(); err != nil {
		return err
	}
	took := time.Since(began)
	if round == 0 || k.zygote && z.PID == 0 { // it had to be begun first
		return nil
	}
	start, err := lastStart(p.Log(), i)
	k.starts, k.answers, k.memory = append(k.starts, start), append(k.answers, took), append(k.memory, z.Used)
	return err
}

// stopped waits until a function has no instance, and returns its zygote, if it has one.
func (b *bench) stopped(name string) (instances.ZygoteStatus, error) {
	ctx, cancel := context.WithTimeout(b.c.Context, time.Minute)
	defer cancel()
	client, look := control.Dial(b.lab.BPFFS()), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for {
		all, err := client.Functions(ctx)
		if err != nil {
			return instances.ZygoteStatus{}, err
		}
		for _, f := range all {
			if f.Function == name && f.State == instances.Stopped {
				return f.Zygote, nil
			}
		}
		select {
		case <-ctx.Done():
			return instances.ZygoteStatus{}, fmt.Errorf("it does not stop: %w", ctx.Err())
		case <-look.C:
		}
	}
}

// lastStart is how long the latest start of a function took, as the loader says.
func lastStart(log string, i int) (time.Duration, error) {
	all := regexp.MustCompile(fmt.Sprintf(`msg="instance is ready" function=f%d .* after=(\S+)`, i)).FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return 0, errors.New("the loader does not say that an instance was ready")
	}
	return time.ParseDuration(all[len(all)-1][1])
}

// printCold prints a row for each kind.
func printCold(w io.Writer, kinds []*coldKind) {
	fmt.Fprintln(w, "| function | starts | start to listening ms, p50 (p10 to p90) | PUBLISH to PUBACK ms, p50 (p10 to p90) | zygote MiB |\n|---|---|---|---|---|")
	for _, k := range kinds {
		ms := func(took []time.Duration) string {
			slices.Sort(took)
			if len(took) == 0 {
				return "none"
			}
			at := func(q float64) float64 { return quantile(took, q).Seconds() * 1000 }
			return fmt.Sprintf("%.1f (%.1f to %.1f)", at(0.5), at(0.1), at(0.9))
		}
		memory := ""
		if slices.Sort(k.memory); k.zygote && len(k.memory) > 0 {
			memory = fmt.Sprintf("%.1f", float64(k.memory[len(k.memory)/2])/(1<<20))
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s |\n", k.name, len(k.starts), ms(k.starts), ms(k.answers), memory)
	}
}

// coldConfig has the functions, none of which has an instance at rest.
func coldConfig(kinds []*coldKind) string {
	var functions, routes strings.Builder
	for i, k := range kinds {
		zygote := ""
		if k.zygote {
			zygote = ", zygote: python"
		}
		fmt.Fprintf(&functions, "  - {name: f%d, url: \"http://f%d.local/\", run: {command: [/usr/bin/python3, -c, %q], instances: {max: 1}, lambda: 2s%s}}\n", i, i, k.imports+lab.PythonFunction, zygote)
		fmt.Fprintf(&routes, "  - {topic: %s, function: f%d}\n", topic(i), i)
	}
	return "functions:\n" + functions.String() + "routes:\n" + routes.String()
}
