// Command demo shows eproxy at work in network namespaces, in under a minute.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
	"eproxy/internal/pinned"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

func main() {
	cliutil.Main(&cli.App{
		Name:  "demo",
		Usage: "show eproxy at work: devices, a node, two function pods, in network namespaces",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "duration", Value: 6 * time.Second, Usage: "length of each of the two loads"},
			&cli.Float64Flag{Name: "rate", Value: 2000, Usage: "messages per second"},
		},
		Action:   run,
		Commands: []*cli.Command{functionCommand()},
	})
}

const config = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["10.88.1.2:8080", "10.88.2.2:8080"]
  - name: alarm
    url: http://alarm.local/
    pods: ["10.88.2.2:8081"]
routes:
  - {topic: "sensors/+/temp", function: temp}
  - {topic: "alarms/#", function: alarm}
`

// demo is one run.
type demo struct {
	c   *cli.Context
	out io.Writer
	lab *lab.Lab
	dir string
}

func run(c *cli.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer l.Close()
	dir, err := os.MkdirTemp("", "eproxy-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{c: c, out: c.App.Writer, lab: l, dir: dir}
	if err := d.functions(); err != nil {
		return err
	}
	d.say("Devices speak MQTT, functions speak HTTP. Between them usually stand a broker, an adaptor and a proxy.")
	d.say("eproxy turns each MQTT message into the HTTP request inside the kernel, on the wire, and the function's")
	d.say("response into the acknowledgement. Here: a host with devices, a node with eproxy, two pods with functions.\n")
	bin := filepath.Dir(self)
	kernel, err := d.part(bin, "xdp", "eproxy in the kernel")
	if err != nil {
		return err
	}
	fallback, err := d.part(bin, "fallback", "the same load through a userspace server (eproxy's own fallback)")
	if err != nil {
		return err
	}
	d.summary(kernel, fallback)
	return d.sleep(bin)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// functions serves the functions in the pods' namespaces.
func (d *demo) functions() error {
	for _, at := range []struct {
		pod  lab.Role
		port string
	}{{lab.Pod0, "8080"}, {lab.Pod1, "8080"}, {lab.Pod1, "8081"}} {
		ln, err := d.lab.Listen(at.pod, net.JoinHostPort(lab.PodAddr(at.pod, false).String(), at.port))
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = srv.Serve(ln) }()
	}
	return nil
}

// figures are what a load came to.
type figures struct {
	cpu, share float64 // microseconds per message; percent taken in the kernel
	result     *load.Result
}

// part runs eproxy in one mode and puts the load on it.
func (d *demo) part(bin, mode, title string) (f figures, err error) {
	d.say("== %s", title)
	p, err := d.lab.StartEproxy(d.c.Context, d.dir, lab.Eproxy{Bin: bin, Mode: mode, Config: config})
	if err != nil {
		return f, err
	}
	defer func() {
		if serr := p.Stop(); err == nil && d.c.Context.Err() == nil {
			err = serr
		}
	}()
	if mode != "fallback" {
		d.realClient()
	}
	ctx, cancel := context.WithCancel(d.c.Context)
	defer cancel()
	ticks := make(chan struct{})
	go func() {
		defer close(ticks)
		if mode != "fallback" {
			d.live(ctx)
		}
	}()
	before, err := lab.ReadBusy()
	if err != nil {
		return f, err
	}
	dial := load.MQTT{Payload: 64, Topic: func(i int) string { return fmt.Sprintf("sensors/%d/temp", i) },
		Dial: func(ctx context.Context) (net.Conn, error) {
			return d.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
		}}
	f.result, err = load.Run(d.c.Context, dial.Open, load.Plan{Connections: 20, Rate: d.c.Float64("rate"), Duration: d.c.Duration("duration")})
	if err != nil {
		return f, err
	}
	after, err := lab.ReadBusy()
	if err != nil {
		return f, err
	}
	cancel()
	<-ticks
	f.cpu = after.Since(before).Seconds() / float64(f.result.Answered) * 1e6
	if mode != "fallback" {
		if f.share, err = d.share(f.result.Sent); err != nil {
			return f, err
		}
	}
	d.say("   %d messages published, %d acknowledged after their function had answered\n", f.result.Sent, f.result.Answered)
	return f, nil
}

// realClient publishes once with mosquitto_pub, if it is installed.
func (d *demo) realClient() {
	args := []string{"-h", lab.NodeV4.String(), "-t", "alarms/door/7", "-m", "open", "-q", "1", "-i", "door-7", "-d"}
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		return
	}
	d.say("   $ mosquitto_pub %s", strings.Join(args, " "))
	out, err := d.lab.Run(d.c.Context, lab.Dev, "mosquitto_pub", args...)
	for line := range strings.Lines(string(out)) {
		d.say("     %s", strings.TrimRight(line, "\n"))
	}
	if err != nil {
		d.say("     %v", err)
	}
}

// live prints the counters every second.
func (d *demo) live(ctx context.Context) {
	m, err := pinned.Open(d.lab.BPFFS())
	if err != nil {
		return
	}
	defer m.Close()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	last := map[string]uint64{}
	d.say("   %-16s %-8s %12s %14s %12s", "ROUTE", "FUNCTION", "MESSAGES/S", "IN THE KERNEL", "MEAN")
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		routes, err := m.Routes()
		if err != nil {
			return
		}
		for _, r := range routes {
			answered := r.Stats.Answered[0] + r.Stats.Answered[1]
			if answered == last[r.Filter] {
				continue
			}
			mean := time.Duration(r.Stats.Nanoseconds / answered)
			d.say("   %-16s %-8s %12d %14d %12s", r.Filter, r.Function, answered-last[r.Filter], answered, mean.Round(time.Microsecond))
			last[r.Filter] = answered
		}
	}
}

// share is how much of the load the kernel took, percent.
func (d *demo) share(sent int) (float64, error) {
	m, err := pinned.Open(d.lab.BPFFS())
	if err != nil {
		return 0, err
	}
	defer m.Close()
	routes, err := m.Routes()
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for _, r := range routes {
		if r.Function == "temp" {
			n += r.Stats.Answered[1]
		}
	}
	return 100 * float64(n) / float64(sent), nil
}

func (d *demo) summary(k, f figures) {
	d.say("== Summary: %.0f messages a second from 20 devices, 64 bytes, QoS 1", d.c.Float64("rate"))
	d.say("   %-28s %14s %14s", "", "in the kernel", "userspace")
	d.say("   %-28s %13.1f%% %14s", "taken in the kernel", k.share, "-")
	d.say("   %-28s %11.0f us %11.0f us", "processor time per message", k.cpu, f.cpu)
	d.say("   %-28s %14s %14s", "latency, median", k.result.Quantile(0.5).Round(time.Microsecond), f.result.Quantile(0.5).Round(time.Microsecond))
	d.say("   %-28s %14s %14s", "latency, 99 of 100 below", k.result.Quantile(0.99).Round(time.Microsecond), f.result.Quantile(0.99).Round(time.Microsecond))
	d.say("   Processor time is the whole machine's, devices and functions included; try make bench for careful figures.\n")
}
