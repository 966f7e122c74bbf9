// Command bench compares eproxy with a direct HTTP call and with its own
// userspace fallback, side by side in one run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

func main() { cliutil.Main(app(commands(), run)) }

// app is bench with these commands, and what it does without one. None begins with numbers that nothing can be measured with.
func app(commands []*cli.Command, all cli.ActionFunc) *cli.App {
	for _, c := range commands {
		c.Action = checked(c.Flags, c.Action)
	}
	return &cli.App{
		Name:     "bench",
		Usage:    "whole-machine CPU per message, rate, latency and fairness: direct HTTP, userspace gateways, userspace fallback, TC, XDP",
		Flags:    flags(),
		Action:   checked(flags(), all),
		Commands: commands,
	}
}

// flags are those without a command.
func flags() []cli.Flag {
	return slices.Concat(roundFlags(5, 3*time.Second), []cli.Flag{
		&cli.Float64Flag{Name: "rate", Value: 5000, Usage: "open loop, messages per second"},
	}, deviceFlags(), []cli.Flag{
		&cli.StringFlag{Name: "rows", Value: "direct," + rowNetHTTP + "," + rowGateway + "," + rowPlain + ",fallback,tc,xdp,tc-tuned,xdp-tuned", Usage: rowsUsage},
		&cli.StringFlag{Name: "loads", Value: "open,open100,closed1,closed50", Usage: "open: fixed rate; openN: N messages per second; closedN: N in flight per connection; with q0 behind: nine of ten messages have QoS 0"},
	})
}

// roundFlags are those of measurements of several things in turn.
func roundFlags(rounds int, duration time.Duration) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "rounds", Value: rounds, Usage: "interleaved rounds `N`"},
		&cli.DurationFlag{Name: "duration", Value: duration, Usage: "length of one measurement"},
	}
}

// deviceFlags are those of who publishes.
func deviceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "connections", Value: 20, Usage: "devices `N`"},
		&cli.IntFlag{Name: "payload", Value: 64, Usage: "bytes"},
	}
}

func commands() []*cli.Command {
	return []*cli.Command{linksCommand(), connectionsCommand(), xdpCommand(), versionsCommand(), changesCommand(), wakeCommand(), zygoteCommand(), paperCommand(), podsCommand(), brokersCommand(), functionCommand(), gatewayCommand()}
}

// functionCommand is the function that all rows call: net/http, a small response.
func functionCommand() *cli.Command {
	return &cli.Command{
		Name: "function", Usage: "serve the function (used by bench itself)", Hidden: true,
		Flags: []cli.Flag{&cli.PathFlag{Name: "arrivals", Usage: "`SOCKET` that tells when messages arrived"}},
		Action: func(c *cli.Context) error {
			l, err := net.Listen("tcp", ":8080")
			if err != nil {
				return err
			}
			read := func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
			if path := c.Path("arrivals"); path != "" {
				if read, err = noteArrivals(c.Context, path); err != nil {
					return err
				}
			}
			fmt.Fprintln(c.App.ErrWriter, "msg=serving")
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				read(r.Body)
				_, _ = io.WriteString(w, "ok\n")
			})}
			context.AfterFunc(c.Context, func() { _ = srv.Close() })
			if err := srv.Serve(l); err != http.ErrServerClosed {
				return err
			}
			return nil
		},
	}
}

// config is eproxy's, with everything at its default.
const config = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["10.88.1.2:8080", "10.88.2.2:8080"]
routes:
  - topic: sensors/+/temp
    function: temp
`

// topic is what device i publishes to.
func topic(i int) string { return fmt.Sprintf("sensors/%d/temp", i) }

// tunedConfig has room for all that a closed loop has in flight.
var tunedConfig = strings.Replace(config, "routes:", `    concurrency: 24
    pipeline: 64
limits: {pods: 4, inflight_per_client: 64}
routes:`, 1)

// Rows that are not modes of eproxy.
const (
	rowDirect  = "direct"
	rowNetHTTP = "nethttp"
	rowGateway = "gateway"
	rowPlain   = "gateway-go"
)

const rowsUsage = "what is measured; direct: a hand-written HTTP client that does next to nothing, nethttp: Go's own, " +
	"gateway: a userspace gateway with nothing but epoll, gateway-go: one with Go's net, fallback, tc, xdp: eproxy with its defaults, " +
	"with -tuned: as closed loops want it; ratios are to the first, to nethttp, and to gateway if that counts"

// bench is one run.
type bench struct {
	lab   *lab.Lab
	self  string
	bin   string // directory of eproxy's binaries
	dir   string
	c     *cli.Context
	pods  []*lab.Process
	after []func() // in reverse order
}

func run(c *cli.Context) error { return inLab(c, (*bench).all) }

// inLab runs a measurement in a lab whose pods serve the function.
func inLab(c *cli.Context, measure func(b *bench) error) error {
	return measureIn(newBench, c, measure)
}

// measureIn runs a measurement in a lab that is made for it.
func measureIn(made func(*cli.Context) (*bench, error), c *cli.Context, measure func(b *bench) error) error {
	b, err := made(c)
	defer b.close()
	if err != nil {
		return err
	}
	return measure(b)
}

// newBench makes a lab whose pods serve the function. It is to be closed also after an error.
func newBench(c *cli.Context) (b *bench, err error) {
	if b, err = newLab(c); err != nil {
		return b, err
	}
	pods, stop, err := startFunctions(c.Context, b.lab, b.self)
	if err != nil {
		return b, err
	}
	b.pods, b.after = pods, append(b.after, stop)
	return b, nil
}

// newLab makes a lab in which nothing runs. It is to be closed also after an error.
func newLab(c *cli.Context) (b *bench, err error) {
	b = &bench{c: c}
	if b.self, err = os.Executable(); err != nil {
		return b, err
	}
	b.bin = filepath.Dir(b.self)
	if b.lab, err = lab.New(); err != nil {
		return b, err
	}
	b.after = append(b.after, b.lab.Close)
	if b.dir, err = os.MkdirTemp("", "eproxy-bench-"); err != nil {
		return b, err
	}
	b.after = append(b.after, func() { _ = os.RemoveAll(b.dir) })
	return b, nil
}

func (b *bench) close() {
	for _, f := range slices.Backward(b.after) {
		f()
	}
}

// startFunctions starts the function in both pods.
func startFunctions(ctx context.Context, l *lab.Lab, self string) (running []*lab.Process, stop func(), err error) {
	stop = func() {
		for _, p := range running {
			_ = p.Stop()
		}
	}
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		p, err := l.StartServing(pod, lab.Command(ctx, self, "function"))
		if err != nil {
			stop()
			return nil, nil, err
		}
		running = append(running, p)
	}
	return running, stop, nil
}

// all measures everything and prints the table.
func (b *bench) all() error {
	rows := strings.Split(b.c.String("rows"), ",")
	t := newTable(rows, b.c.Int("connections"))
	idle, err := b.idle()
	if err != nil {
		return err
	}
	fmt.Fprintf(b.c.App.Writer, "idle machine: %.1f ms of processor time per second\n", idle*1000)
	if err := b.memory(b.c.App.Writer); err != nil {
		return fmt.Errorf("memory at rest: %w", err)
	}
	for _, ld := range strings.Split(b.c.String("loads"), ",") {
		plan, err := b.plan(ld)
		if err != nil {
			return err
		}
		for round := range b.c.Int("rounds") {
			for i := range rows {
				row := rows[(i+round)%len(rows)] // nobody always comes first
				m, err := b.measure(row, plan, idle)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", row, ld, err)
				}
				t.add(ld, row, m)
			}
		}
		t.print(b.c.App.Writer, ld)
	}
	return nil
}

// qos0Group is how many messages end with one of QoS 1 in loads of QoS 0.
const qos0Group = 10

// plan is the load of that name.
func (b *bench) plan(name string) (load.Plan, error) {
	p := load.Plan{Connections: b.c.Int("connections"), Duration: b.c.Duration("duration")}
	base, qos0 := strings.CutSuffix(name, "q0")
	if qos0 {
		p.Group = qos0Group
	}
	switch name := base; {
	case name == "open":
		p.Rate = b.c.Float64("rate")
	case strings.HasPrefix(name, "open"):
		if _, err := fmt.Sscanf(name, "open%g", &p.Rate); err != nil || p.Rate <= 0 {
			return p, cliutil.Usagef("--loads %q: open, openN or closedN, and q0", name)
		}
	case strings.HasPrefix(name, "closed"):
		if _, err := fmt.Sscanf(name, "closed%d", &p.InFlight); err != nil || p.InFlight < 1 {
			return p, cliutil.Usagef("--loads %q: open, openN or closedN, and q0", name)
		}
	default:
		return p, cliutil.Usagef("--loads %q: open, openN or closedN, and q0", name)
	}
	return p, nil
}

// idle is the processor time that the machine uses by itself, seconds per second.
func (b *bench) idle() (float64, error) {
	before, err := lab.ReadBusy()
	if err != nil {
		return 0, err
	}
	const span = 2 * time.Second
	select {
	case <-time.After(span):
	case <-b.c.Context.Done():
		return 0, b.c.Context.Err()
	}
	after, err := lab.ReadBusy()
	return after.Since(before).Seconds() / span.Seconds(), err
}

// measure makes one row's load once.
func (b *bench) measure(row string, plan load.Plan, idle float64) (m measurement, err error) {
	payload := b.c.Int("payload")
	toPod := func(ctx context.Context, i int) (net.Conn, error) {
		pod := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
		return b.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"))
	}
	switch row {
	case rowDirect:
		return b.load(load.HTTP{Topic: topic, Payload: payload, Dial: toPod}.Open, nil, plan, idle)
	case rowNetHTTP:
		return b.load(load.NetHTTP{Topic: topic, Payload: payload, Dial: toPod}.Open, nil, plan, idle)
	}
	between, err := b.serve(row)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, between.Stop()) }()
	return b.load(b.mqtt(plan), between, plan, idle)
}

// mqtt opens devices' connections to what stands between them and the pods.
func (b *bench) mqtt(plan load.Plan) load.Dialer {
	return load.MQTT{Topic: topic, Payload: b.c.Int("payload"), Group: plan.Group, Dial: func(ctx context.Context) (net.Conn, error) {
		return b.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	}}.Open
}

// load makes a load once and measures it.
func (b *bench) load(dial load.Dialer, between *lab.Process, plan load.Plan, idle float64) (m measurement, err error) {
	warm := plan
	warm.Duration = plan.Duration / 6
	if _, err := load.Run(b.c.Context, dial, warm); err != nil {
		return m, err
	}
	before, err := lab.ReadBusy()
	if err != nil {
		return m, err
	}
	ownBefore, err := between.Busy()
	if err != nil {
		return m, err
	}
	partsBefore, err := b.charged(between)
	if err != nil {
		return m, err
	}
	r, err := load.Run(b.c.Context, dial, plan)
	if err != nil {
		return m, err
	}
	after, err := lab.ReadBusy()
	if err != nil {
		return m, err
	}
	ownAfter, err := between.Busy()
	if err != nil {
		return m, err
	}
	partsAfter, err := b.charged(between)
	if err != nil {
		return m, err
	}
	busy := after.Since(before).Seconds() - idle*r.Elapsed.Seconds()
	return measurement{
		parts: float64((partsAfter - partsBefore).Nanoseconds()) / 1000 / float64(r.Answered),
		cpu:   busy / float64(r.Answered) * 1e6,
		own:   float64((ownAfter - ownBefore).Nanoseconds()) / 1000 / float64(r.Answered),
		rate:  r.Rate(),
		p50:   float64(r.Quantile(0.5).Nanoseconds()) / 1000,
		p99:   float64(r.Quantile(0.99).Nanoseconds()) / 1000,
		fair:  r.SmallestShare(time.Second),
	}, nil
}

// charged is the processor time that devices, pods and what stands between have used.
func (b *bench) charged(between *lab.Process) (time.Duration, error) {
	sum, err := lab.BusyOf(os.Getpid()) // the devices
	for _, p := range append(slices.Clone(b.pods), between) {
		t, perr := p.Busy()
		sum, err = sum+t, errors.Join(err, perr)
	}
	return sum, err
}

// serve starts what stands between devices and pods.
func (b *bench) serve(row string) (*lab.Process, error) {
	if row == rowGateway || row == rowPlain {
		return b.lab.StartServing(lab.Node, lab.Command(b.c.Context, b.self, "gateway", "--kind", row))
	}
	mode, tuned := strings.CutSuffix(row, "-tuned")
	text := config
	if tuned {
		text = tunedConfig
	}
	return b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: mode, Config: text})
}
