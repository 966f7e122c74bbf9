package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/link"
	"eproxy/test/lib/load"
)

// Rows of bench links: how eproxy runs, by the names of lab.Eproxy.
const (
	rowFallback = "fallback" // what the others are compared with: no program attached
	rowTC       = "tc"
	rowXDP      = "xdp"
	rowControl  = "control" // fallback once more: what ratios chance makes
)

// TCP implementations of the devices.
const (
	deviceLinux  = "linux"
	deviceNoSACK = "nosack"
	deviceLwIP   = "lwip"
)

// Who is behind the bad link.
const (
	sideDevices = "devices"
	sidePods    = "pods"
)

// linkLoad is what devices send over a link.
type linkLoad struct {
	name        string
	connections int
	inFlight    int
	payload     int                           // bytes
	messages    func(delay time.Duration) int // of each connection
	xdp         bool                          // XDP takes some of it, so that it is measured too
	pushes      int                           // messages of 500 bytes that each device receives at the same time
}

// byDelay is how many messages are sent over links of short and long delay.
func byDelay(short, long int) func(time.Duration) int {
	return func(delay time.Duration) int {
		if delay > 50*time.Millisecond {
			return long
		}
		return short
	}
}

func always(n int) func(time.Duration) int { return func(time.Duration) int { return n } }

// linkLoads are one message in flight, two windows, one of them on devices that subscribe
// as well, and messages of many segments, which the programs never take.
var linkLoads = []linkLoad{
	{name: "one", connections: 4, inFlight: 1, payload: 128, xdp: true, messages: byDelay(50, 25)},
	{name: "w16x128", connections: 4, inFlight: 16, payload: 128, messages: always(200)},
	{name: "w32x1000", connections: 4, inFlight: 32, payload: 1000, messages: always(100)},
	{name: "w16x128+sub", connections: 4, inFlight: 16, payload: 128, messages: always(200), pushes: 200},
	{name: "2x100k", connections: 1, inFlight: 2, payload: 100_000, messages: byDelay(12, 4)},
}

// Shapes of links. The short ones are for every day.
var shapes = map[bool]struct{ loss, delay, jitter string }{
	false: {"0,1", "20ms", "0"},
	true:  {"0,1,5", "1ms,20ms,100ms", "0,25"},
}

func linksCommand() *cli.Command {
	return &cli.Command{
		Name: "links", Usage: "eproxy's programs against the kernel's own TCP over emulated links with delay, jitter and loss",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "full", Usage: "all shapes of links instead of the short list; takes hours"},
			&cli.StringFlag{Name: "loss", Usage: "percent of the packets, each way"},
			&cli.StringFlag{Name: "delay", Usage: "each way"},
			&cli.StringFlag{Name: "jitter", Usage: "percent of the delay, up and down: packets overtake each other"},
			&cli.StringFlag{Name: "loads", Usage: "of " + strings.Join(loadNames(), ", ")},
			&cli.StringFlag{Name: "rows", Value: rowFallback + "," + rowTC + "," + rowXDP, Usage: "what is measured; ratios are to the first. xdp: only loads that XDP takes; control: fallback once more, whose ratios are chance"},
			&cli.IntFlag{Name: "seeds", Usage: "interleaved rounds `N`, each with another seed (default: 5, with --full 9)"},
			&cli.Uint64Flag{Name: "first-seed", Value: 1, Usage: "seed of the first round; the next ones follow"},
			&cli.DurationFlag{Name: "bound", Value: 20 * time.Second, Usage: "how long one run may take; two that take longer end the measurement of a row in a cell"},
			&cli.StringFlag{Name: "side", Value: sideDevices, Usage: "who is behind the bad link: devices, pods (each has its own)"},
			&cli.StringFlag{Name: "device", Value: deviceLinux, Usage: "the devices' TCP: linux, nosack (Linux without selective acknowledgements), lwip"},
			&cli.StringFlag{Name: "congestion", Value: "reno", Usage: "congestion control of Linux devices, of the node and of pods"},
			&cli.StringSliceFlag{Name: "sysctl", Usage: "a parameter of devices, node and pods, such as ipv4/tcp_timestamps=0"},
			&cli.StringFlag{Name: "json", Usage: "write all runs to `FILE`"},
		},
		Action: runLinks,
	}
}

func loadNames() []string {
	names := make([]string, len(linkLoads))
	for i, l := range linkLoads {
		names[i] = l.name
	}
	return names
}

// cell is a load on a shape of link.
type cell struct {
	Side   string        `json:"side"` // who is behind the link
	Load   string        `json:"load"`
	Loss   float64       `json:"loss"` // probability
	Delay  time.Duration `json:"delay_ns"`
	Jitter float64       `json:"jitter"` // part of the delay
	load   linkLoad
}

func (c cell) params() [2]link.Params {
	p := link.Params{Delay: c.Delay, Jitter: time.Duration(c.Jitter * float64(c.Delay)), Loss: c.Loss}
	return [2]link.Params{p, p}
}

func (c cell) String() string {
	return fmt.Sprintf("%s, %s behind %g %% loss, %s, %g %% jitter", c.Load, c.Side, 100*c.Loss, c.Delay, 100*c.Jitter)
}

// cells are what the flags ask for, load by load.
func cells(c *cli.Context) ([]cell, error) {
	shape := shapes[c.Bool("full")]
	loss, err := numbers(c, "loss", shape.loss)
	if err != nil {
		return nil, err
	}
	jitter, err := numbers(c, "jitter", shape.jitter)
	if err != nil {
		return nil, err
	}
	var delays []time.Duration
	for _, s := range list(c, "delay", shape.delay) {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return nil, cliutil.Usagef("--delay %q: not a duration", s)
		}
		delays = append(delays, d)
	}
	var out []cell
	for _, name := range list(c, "loads", strings.Join(loadNames(), ",")) {
		l, err := loadNamed(name)
		if err != nil {
			return nil, err
		}
		for _, d := range delays {
			for _, j := range jitter {
				for _, p := range loss {
					out = append(out, cell{Side: c.String("side"), Load: name, Loss: p / 100, Delay: d, Jitter: j / 100, load: l})
				}
			}
		}
	}
	return out, nil
}

func loadNamed(name string) (linkLoad, error) {
	for _, l := range linkLoads {
		if l.name == name {
			return l, nil
		}
	}
	return linkLoad{}, cliutil.Usagef("--loads %q: must be of %s", name, strings.Join(loadNames(), ", "))
}

// list is a flag's list, or another one if it is not given.
func list(c *cli.Context, flag, otherwise string) []string {
	s := c.String(flag)
	if s == "" {
		s = otherwise
	}
	return strings.Split(s, ",")
}

// numbers are a flag's percentages.
func numbers(c *cli.Context, flag, otherwise string) ([]float64, error) {
	var out []float64
	for _, s := range list(c, flag, otherwise) {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n < 0 || n > 100 {
			return nil, cliutil.Usagef("--%s %q: not a percentage", flag, s)
		}
		out = append(out, n)
	}
	return out, nil
}

func runLinks(c *cli.Context) error {
	if d := c.String("device"); d != deviceLinux && d != deviceNoSACK && d != deviceLwIP {
		return cliutil.Usagef("--device %q: must be %s, %s or %s", d, deviceLinux, deviceNoSACK, deviceLwIP)
	}
	if farSides[c.String("side")] == nil {
		return cliutil.Usagef("--side %q: must be %s or %s", c.String("side"), sideDevices, sidePods)
	}
	todo, err := cells(c)
	if err != nil {
		return err
	}
	seeds := c.Int("seeds")
	if seeds == 0 {
		seeds = map[bool]int{false: 5, true: 9}[c.Bool("full")]
	}
	// Collecting garbage stops the link's thread together with all others, for as long as the
	// slowest takes to be stopped. There is little of it.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	rows := list(c, "rows", "")
	sites := make(map[string]*site)
	for _, row := range rows {
		s, err := openSite(c, row)
		if err != nil {
			return fmt.Errorf("%s: %w", row, err)
		}
		defer s.close()
		sites[row] = s
	}
	limits, err := sites[rows[0]].limits()
	if err != nil {
		return fmt.Errorf("measure the link itself: %w", err)
	}
	fmt.Fprintln(c.App.Writer, limits)
	var results []*linkResult
	for _, x := range todo {
		r, err := measureCell(c, x, rowsOf(x, rows), sites, seeds)
		if err != nil {
			return fmt.Errorf("%s: %w", x, err)
		}
		r.print(c.App.Writer)
		results = append(results, r)
	}
	summary(c.App.Writer, results)
	if file := c.String("json"); file != "" {
		b, err := json.MarshalIndent(results, "", " ")
		if err != nil {
			return err
		}
		return os.WriteFile(file, append(b, '\n'), 0o644)
	}
	return nil
}

// rowsOf are the rows that a cell is measured with.
func rowsOf(x cell, rows []string) []string {
	var out []string
	for _, r := range rows {
		if r != rowXDP || x.load.xdp {
			out = append(out, r)
		}
	}
	return out
}

// giveUp is how many runs of a row in a cell may end unfinished.
const giveUp = 2

// measureCell measures the rows in turn, seed by seed.
func measureCell(c *cli.Context, x cell, rows []string, sites map[string]*site, seeds int) (*linkResult, error) {
	r := &linkResult{Cell: x, Rows: rows, Runs: make(map[string][]linkRun)}
	for round := range seeds {
		for i := range rows {
			row := rows[(i+round)%len(rows)] // nobody always comes first
			if r.unfinished(row) == giveUp {
				continue
			}
			run, err := sites[row].run(x, c.Uint64("first-seed")+uint64(round), c.Duration("bound"))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", row, err)
			}
			r.Runs[row] = append(r.Runs[row], run)
		}
	}
	return r, nil
}

// pushGap is the time between two messages to subscribers.
const pushGap = 2 * time.Millisecond

// load makes a load, and that of those who publish to the devices, over a good link.
func (s *site) load(l linkLoad, plan load.Plan) (*load.Result, error) {
	devices := load.MQTT{Topic: topic, Payload: l.payload, Dial: s.dial}
	if l.pushes == 0 {
		return load.Run(s.ctx, devices.Open, plan)
	}
	news := func(int) string { return "news" }
	devices.Subscribe, devices.Pushes = news(0), l.pushes
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	opened := 0
	var wg errgroup.Group
	r, err := load.Run(ctx, func(ctx context.Context, i int) (load.Conn, error) {
		c, err := devices.Open(ctx, i)
		if opened++; err == nil && opened == plan.Connections {
			wg.Go(func() error {
				return load.MQTT{Topic: news, Payload: 500, Dial: s.dialGood}.Push(ctx, l.pushes, pushGap)
			})
		}
		return c, err
	}, plan)
	cancel()
	if perr := wg.Wait(); err == nil && !errors.Is(perr, context.Canceled) {
		err = perr
	}
	return r, err
}

// run makes one run.
func (s *site) run(x cell, seed uint64, bound time.Duration) (run linkRun, err error) {
	s.begin(seed, x.params())
	taken, err := s.taken()
	if err != nil {
		return run, err
	}
	plan := load.Plan{Connections: x.load.connections, InFlight: x.load.inFlight, Messages: x.load.messages(x.Delay), Duration: bound}
	r, err := s.load(x.load, plan)
	unfinished := errors.Is(err, load.ErrUnfinished)
	if err != nil && !unfinished {
		return run, err
	}
	counts := s.counts()
	if n := counts.Overflow + counts.Long; n > 0 {
		return run, fmt.Errorf("the emulated link is overburdened: %d packets neither carried nor lost by the seed", n)
	}
	now, err := s.taken()
	if err != nil {
		return run, err
	}
	return linkRun{
		Seed: seed, Unfinished: unfinished,
		Messages: plan.Connections * plan.Messages, Acknowledged: r.Answered, Taken: int(now - taken),
		Lost: counts.Lost, Packets: counts.Packets,
		Seconds: r.Elapsed.Seconds(), P50: r.Quantile(0.5).Seconds(), P99: r.Quantile(0.99).Seconds(),
		LinkLate: counts.Late.Quantile(0.99).Seconds(),
	}, nil
}
