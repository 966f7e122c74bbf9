package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/instances"
	"eproxy/test/lib/idlers"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

const (
	asleep    = 20              // functions
	asleepFor = 3 * time.Second // is what they and the loader use looked at
)

// functionCommand has this program be one of the functions that sleep.
func functionCommand() *cli.Command {
	return &cli.Command{Name: "function", Usage: "answer HTTP requests at PORT", Hidden: true, Action: func(*cli.Context) error {
		srv := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 5 * time.Second}
		return srv.ListenAndServe()
	}}
}

// answer takes a message.
func answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "ok\n")
}

func lamp(i int) string { return fmt.Sprintf("lamps/%d/state", i) }

// sleepingConfig has functions that the loader runs, and freezes when they have been idle for a second.
func sleepingConfig(function string) string {
	var functions, routes strings.Builder
	for i := range asleep {
		fmt.Fprintf(&functions, "  - {name: lamp%d, url: \"http://lamp.local/\", run: {command: [%q, function], idle: 1s}}\n", i, function)
		fmt.Fprintf(&routes, "  - {topic: %s, function: lamp%d}\n", lamp(i), i)
	}
	return "functions:\n" + functions.String() + "routes:\n" + routes.String()
}

// sleep shows functions that sleep until a message needs them.
func (d *demo) sleep(bin string) (err error) {
	d.say("== %d functions asleep: the loader runs them, their processes are frozen while nothing comes", asleep)
	function, err := idlers.Copy(d.dir)
	if err != nil {
		return err
	}
	p, err := d.lab.StartEproxy(d.c.Context, d.dir, lab.Eproxy{Bin: bin, Mode: "tc", Config: sleepingConfig(function)})
	if err != nil {
		return err
	}
	defer func() {
		if serr := p.Stop(); err == nil && d.c.Context.Err() == nil {
			err = serr
		}
	}()
	device := load.MQTT{Payload: 64, Topic: lamp, Dial: func(ctx context.Context) (net.Conn, error) {
		return d.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	}}
	// Until the first message they stay awake. It is to find a function that has started: what starting takes is not shown here.
	if err := idlers.Reach(d.c.Context, d.lab.BPFFS(), instances.Ready, asleep); err != nil {
		return err
	}
	// A message a function.
	one := load.Plan{Connections: asleep, Rate: asleep, Duration: time.Second}
	awake, err := load.Run(d.c.Context, device.Open, one)
	if err != nil {
		return err
	}
	if err := idlers.Reach(d.c.Context, d.lab.BPFFS(), instances.Frozen, asleep); err != nil {
		d.say("   they do not sleep here (%v): loader doctor says what is missing\n", err)
		return errors.Join(d.c.Context.Err())
	}
	before, err := p.Busy()
	if err != nil {
		return err
	}
	time.Sleep(asleepFor)
	after, err := p.Busy()
	if err != nil {
		return err
	}
	d.say("   all are frozen (mapsctl instances); the loader uses %.2f %% of a processor, they use none", 100*(after-before).Seconds()/asleepFor.Seconds())
	woken, err := load.Run(d.c.Context, device.Open, one)
	if err != nil {
		return err
	}
	d.say("   %d messages, one for each: %d acknowledged, median %s from PUBLISH to PUBACK (%s when all were awake)\n",
		woken.Sent, woken.Answered, woken.Quantile(0.5).Round(time.Microsecond), awake.Quantile(0.5).Round(time.Microsecond))
	return nil
}
