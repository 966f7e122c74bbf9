package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/lab"
)

// brokersCommand measures what messages cost that are for subscribers, not for functions.
func brokersCommand() *cli.Command {
	return &cli.Command{
		Name: "brokers", Usage: "publish and subscribe without functions, and TLS: eproxy, and eproxy in front of Mosquitto, against Mosquitto",
		Flags: append(roundFlags(5, 2*time.Second), []cli.Flag{
			&cli.IntFlag{Name: "pairs", Value: 10, Usage: "publishers `N`, with a subscriber each"},
			&cli.Float64Flag{Name: "rate", Value: 2000, Usage: "open loop, messages per second of all publishers"},
			&cli.IntFlag{Name: "payload", Value: 64, Usage: "bytes"},
			&cli.StringFlag{Name: "loads", Value: "q0,q1,q0-16,q1-16,tls-q0-16,tls-q1,tls-q1-16,handshake", Usage: "qN: QoS N at --rate; qN-M: M in flight for each publisher; with tls- in front: in TLS; handshake: TLS connections that are opened, CONNECT to CONNACK, and closed"},
			&cli.StringFlag{Name: "rows", Value: rowMosquitto + "," + rowEmbedded + "," + rowRelay, Usage: "what is measured: mosquitto, eproxy (the loader), fallback (userspace-fallback), relay (the same before Mosquitto); with " + otherPrefix + " in front: of --other; ratios are to the first"},
			&cli.PathFlag{Name: "other", Usage: "`DIRECTORY` of another version's loader and userspace-fallback"},
			&cli.StringFlag{Name: "json", Usage: "write all measurements to `FILE`"},
		}...),
		Action: func(c *cli.Context) error { return measureIn(newLab, c, (*bench).brokers) },
	}
}

// brokerLoad is a load by its name.
type brokerLoad struct {
	handshake, tls bool
	qos            byte
	inFlight       int // 0: open loop
}

func brokerLoadOf(name string) (l brokerLoad, err error) {
	rest, ok := strings.CutPrefix(name, "tls-")
	if l.tls = ok; name == "handshake" {
		return brokerLoad{handshake: true, tls: true}, nil
	}
	n, _ := fmt.Sscanf(rest, "q%d-%d", &l.qos, &l.inFlight)
	if n == 0 || l.qos > 1 || n == 2 && l.inFlight < 1 {
		return l, cliutil.Usagef("--loads %q: qN, qN-M, with tls- in front, or handshake", name)
	}
	return l, nil
}

// brokerRun is one measurement.
type brokerRun struct {
	Load     string  `json:"load"`
	Row      string  `json:"row"`
	Round    int     `json:"round"`
	Rate     float64 `json:"per_second"`   // messages, or handshakes
	CPU      float64 `json:"cpu_us"`       // of the processes for each, microseconds
	Switches float64 `json:"switches"`     // how often threads of the processes gave up their processor for each, or lost it
	Relative float64 `json:"cpu_ratio"`    // to the first row's of the same round
	Speed    float64 `json:"rate_ratio"`   // likewise
	P50      float64 `json:"p50_us"`       // from PUBLISH to the subscriber, microseconds
	Machine  float64 `json:"load_average"` // of one minute, of the machine
}

func (b *bench) brokers() error {
	names := strings.Split(b.c.String("rows"), ",")
	rows, err := b.startBrokers(names)
	if err != nil {
		return err
	}
	var all []brokerRun
	for _, load := range strings.Split(b.c.String("loads"), ",") {
		l, err := brokerLoadOf(load)
		if err != nil {
			return err
		}
		for round := range b.c.Int("rounds") {
			runs := make([]brokerRun, len(names))
			for i := range names {
				k := (i + round) % len(names) // nobody always comes first
				if runs[k], err = b.measureBroker(rows[names[k]], l); err != nil {
					return fmt.Errorf("%s, %s: %w", names[k], load, err)
				}
				runs[k].Load, runs[k].Row, runs[k].Round = load, names[k], round
			}
			for i := range runs {
				runs[i].Relative, runs[i].Speed = runs[i].CPU/runs[0].CPU, runs[i].Rate/runs[0].Rate
			}
			all = append(all, runs...)
		}
		b.printBrokers(all, load, names)
	}
	if file := b.c.String("json"); file != "" {
		text, err := json.MarshalIndent(all, "", " ")
		if err != nil {
			return err
		}
		return os.WriteFile(file, append(text, '\n'), 0o600)
	}
	return nil
}

// measureBroker runs a load against a row.
func (b *bench) measureBroker(r *brokerRow, l brokerLoad) (m brokerRun, err error) {
	var before used
	address := r.plain
	if l.tls {
		address = r.tls
	}
	x := &brokerClients{load: l, pairs: b.c.Int("pairs"), payload: b.c.Int("payload"), rate: b.c.Float64("rate"), duration: b.c.Duration("duration"),
		dial: func(ctx context.Context) (net.Conn, error) { return b.lab.Dial(ctx, lab.Dev, address) }}
	n, took, err := x.run(b.c.Context, func() error { before, err = r.used(); return err })
	if err != nil {
		return m, err
	}
	after, err := r.used()
	if err != nil {
		return m, err
	}
	if n == 0 {
		return m, errors.New("nothing got through")
	}
	return brokerRun{Rate: float64(n) / took.Seconds(), CPU: float64((after.time - before.time).Nanoseconds()) / 1e3 / float64(n),
		Switches: float64(after.switches-before.switches) / float64(n), P50: x.median(), Machine: loadOfMinute()}, nil
}

// loadOfMinute is the machine's load average of one minute.
func loadOfMinute() (v float64) {
	_, _ = fmt.Sscanf(loadAverage(), "%g", &v)
	return v
}

func (b *bench) printBrokers(all []brokerRun, load string, names []string) {
	w := tabwriter.NewWriter(b.c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tper second\tCPU µs\tCPU to %s's\trate to %s's\tswitches\tp50 µs\tload\n", load, names[0], names[0])
	for _, name := range names {
		var ms []brokerRun
		for _, m := range all {
			if m.Load == load && m.Row == name {
				ms = append(ms, m)
			}
		}
		show := func(format string, f func(brokerRun) float64) string {
			s := spreadOf(ms, f)
			return fmt.Sprintf(format+" ("+format+" to "+format+")", s.median, s.low, s.high)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, show("%.0f", func(m brokerRun) float64 { return m.Rate }), show("%.1f", func(m brokerRun) float64 { return m.CPU }),
			show("%.2f", func(m brokerRun) float64 { return m.Relative }), show("%.2f", func(m brokerRun) float64 { return m.Speed }),
			show("%.1f", func(m brokerRun) float64 { return m.Switches }), show("%.0f", func(m brokerRun) float64 { return m.P50 }), show("%.1f", func(m brokerRun) float64 { return m.Machine }))
	}
	fmt.Fprintln(w)
	_ = w.Flush()
}
