package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/lab"
)

// Rows of `bench brokers`.
const (
	rowMosquitto = "mosquitto"
	rowEmbedded  = "eproxy"
	rowRelay     = "relay"
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

// brokerRow is where a row's clients connect, and who works for them.
type brokerRow struct {
	plain, tls string
	processes  []*lab.Process
}

// brokerRun is one measurement.
type brokerRun struct {
	Load     string  `json:"load"`
	Row      string  `json:"row"`
	Round    int     `json:"round"`
	Rate     float64 `json:"per_second"`   // messages, or handshakes
	CPU      float64 `json:"cpu_us"`       // of the processes for each, microseconds
	Relative float64 `json:"cpu_ratio"`    // to Mosquitto's of the same round
	Speed    float64 `json:"rate_ratio"`   // likewise
	P50      float64 `json:"p50_us"`       // from PUBLISH to the subscriber, microseconds
	Machine  float64 `json:"load_average"` // of one minute, of the machine
}

func (b *bench) brokers() error {
	rows, err := b.startBrokers()
	if err != nil {
		return err
	}
	names := []string{rowMosquitto, rowEmbedded, rowRelay}
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
	var before time.Duration
	busy := func() (sum time.Duration, err error) {
		for _, p := range r.processes {
			t, err := p.Busy()
			if err != nil {
				return 0, err
			}
			sum += t
		}
		return sum, nil
	}
	address := r.plain
	if l.tls {
		address = r.tls
	}
	x := &brokerClients{load: l, pairs: b.c.Int("pairs"), payload: b.c.Int("payload"), rate: b.c.Float64("rate"), duration: b.c.Duration("duration"),
		dial: func(ctx context.Context) (net.Conn, error) { return b.lab.Dial(ctx, lab.Dev, address) }}
	n, took, err := x.run(b.c.Context, func() error { before, err = busy(); return err })
	if err != nil {
		return m, err
	}
	after, err := busy()
	if err != nil {
		return m, err
	}
	if n == 0 {
		return m, errors.New("nothing got through")
	}
	return brokerRun{Rate: float64(n) / took.Seconds(), CPU: float64((after - before).Nanoseconds()) / 1e3 / float64(n), P50: x.median(), Machine: loadOfMinute()}, nil
}

// loadOfMinute is the machine's load average of one minute.
func loadOfMinute() (v float64) {
	_, _ = fmt.Sscanf(loadAverage(), "%g", &v)
	return v
}

func (b *bench) printBrokers(all []brokerRun, load string, names []string) {
	w := tabwriter.NewWriter(b.c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tper second\tCPU µs\tCPU to %s's\trate to %s's\tp50 µs\tload\n", load, rowMosquitto, rowMosquitto)
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
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, show("%.0f", func(m brokerRun) float64 { return m.Rate }), show("%.1f", func(m brokerRun) float64 { return m.CPU }),
			show("%.2f", func(m brokerRun) float64 { return m.Relative }), show("%.2f", func(m brokerRun) float64 { return m.Speed }),
			show("%.0f", func(m brokerRun) float64 { return m.P50 }), show("%.1f", func(m brokerRun) float64 { return m.Machine }))
	}
	fmt.Fprintln(w)
	_ = w.Flush()
}

// brokersConfig is eproxy's: listeners, and a function that nothing is for.
const brokersConfig = `listeners:
  - address: ":%d"
  - {address: ":%d", tls: {cert: %s, key: %s}}
functions: [{name: temp, url: "http://temp.local/", pods: ["10.88.1.2:8080"]}]
routes: [{topic: "sensors/+/temp", function: temp}]
`

// startBrokers starts all three; those that are not measured have no clients.
func (b *bench) startBrokers() (map[string]*brokerRow, error) {
	cert, key, err := writeCertificate(b.dir, net.ParseIP(lab.NodeV4.String()))
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"mosquitto.conf": fmt.Sprintf("user root\nlistener 1884\nallow_anonymous true\nmax_queued_messages 100000\nlistener 8884\nallow_anonymous true\ncertfile %s\nkeyfile %s\nlog_type none\n", cert, key),
		"eproxy.yaml":    "interfaces: [eth0]\nbpffs: " + b.lab.BPFFS() + "\n" + fmt.Sprintf(brokersConfig, 1883, 8883, cert, key),
		"relay.yaml":     "broker: {mode: relay, url: \"tcp://127.0.0.1:1884\"}\n" + fmt.Sprintf(brokersConfig, 1893, 8893, cert, key),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	at := func(name string) string { return filepath.Join(b.dir, name) }
	bin := filepath.Dir(b.self)
	mosquitto, err := b.lab.StartLogged(lab.Node, lab.Command(b.c.Context, rowMosquitto, "-c", at("mosquitto.conf")))
	if err != nil {
		return nil, err
	}
	b.after = append(b.after, func() { _ = mosquitto.Stop() })
	rows := map[string]*brokerRow{rowMosquitto: b.row(1884, 8884, mosquitto)}
	for name, argv := range map[string][]string{rowEmbedded: {"loader", "run", "--config", at("eproxy.yaml")}, rowRelay: {"userspace-fallback", "--config", at("relay.yaml")}} {
		p, err := b.lab.StartServing(lab.Node, lab.Command(b.c.Context, filepath.Join(bin, argv[0]), argv[1:]...))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.after = append(b.after, func() { _ = p.Stop() })
		if name == rowEmbedded {
			rows[name] = b.row(1883, 8883, p)
		} else {
			rows[name] = b.row(1893, 8893, p, mosquitto)
		}
	}
	return rows, nil
}

func (b *bench) row(plain, tls int, processes ...*lab.Process) *brokerRow {
	at := func(port int) string { return net.JoinHostPort(lab.NodeV4.String(), fmt.Sprint(port)) }
	return &brokerRow{at(plain), at(tls), processes}
}
