package main

import (
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"eproxy/internal/auth"
	"eproxy/internal/bpf"
	"eproxy/internal/cliutil"
	"eproxy/internal/config"
	"eproxy/internal/endpoints"
	"eproxy/internal/instances"
	"eproxy/internal/kube"
	"eproxy/internal/mapmem"
	"eproxy/internal/mochi"
	"eproxy/internal/page"
	"eproxy/internal/passhash"
	"eproxy/internal/reach"
	"eproxy/internal/request"
	"eproxy/internal/transport"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "validate a configuration, possibly of another machine; say which way each function's messages go; exit 0 with warnings only",
		Flags: []cli.Flag{cliutil.ConfigFlag()},
		Action: func(c *cli.Context) error {
			cfg, err := config.Load(c.String("config"), config.NeedInterfaces)
			if err != nil {
				return err
			}
			for _, w := range warnings(c.String("config"), cfg) {
				fmt.Fprintf(c.App.ErrWriter, "%s: warning: %s\n", c.App.Name, w)
			}
			spec, err := bpf.LoadEproxy()
			if err != nil {
				return fmt.Errorf("read BPF object: %w", err)
			}
			headroom, err := bpf.Knob(spec, "knob_headroom")
			if err != nil {
				return err
			}
			for _, fn := range cfg.Functions {
				fmt.Fprintf(c.App.Writer, "function %s: %s\n", fn.Name, way(cfg, fn, int(headroom)))
			}
			for _, r := range cfg.Routes {
				if why := keptBack(cfg, r); why != "" {
					fmt.Fprintf(c.App.Writer, "route %s: fallback (%s)\n", r.Filter, why)
				}
			}
			for _, fn := range cfg.Functions {
				if fn.Run != nil {
					fmt.Fprintf(c.App.Writer, "function %s: %s\n", fn.Name, runs(fn.Run))
				}
			}
			m, err := mapmem.EstimateOf(cfg, runtime.NumCPU())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "memory of the maps: about %d MiB at rest, %d MiB with all that limits and pipeline allow\n", m.Rest>>20, m.Full>>20)
			fmt.Fprintln(c.App.Writer, processMemory(cfg))
			if accounts, err := auth.Load(&cfg.Auth); err == nil && accounts.Count() > 0 { // else warned of
				n := accounts.Count()
				fmt.Fprintf(c.App.Writer, "users: %d; passwords with a NUL, or of more than %d bytes where the hash is bcrypt's, are refused at CONNECT\n", n, passhash.MaxBcrypt)
			}
			live, said := endpoints.Look(c.Context, cfg, kube.New(cfg.Kubernetes, slog.New(slog.DiscardHandler)))
			for _, s := range said {
				fmt.Fprintf(c.App.Writer, "function %s: %s: here %s\n", s.Function, s.Source, sourceSays(s))
			}
			for _, p := range reach.All(live) {
				if p.Reason != "" { // of this machine, where the loader may not be meant to run
					fmt.Fprintf(c.App.Writer, "%s: here %s\n", p.Name(), p.Path)
				}
			}
			fmt.Fprintf(c.App.Writer, "%s: ok, %d functions, %d routes\n", c.String("config"), len(cfg.Functions), len(cfg.Routes))
			return nil
		},
	}
}

// processMemory says what of a configuration decides how much memory the loader's process may take.
func processMemory(cfg *config.Config) string {
	queues := 0
	for _, fn := range cfg.Functions {
		queues += fn.Queue.Bytes
	}
	return fmt.Sprintf("memory of the process: up to %d MiB for %d idle clients (limits.connections), %d MiB for messages in the functions' queues, and for each subscriber that does not read %d messages of up to %d KiB",
		cfg.Limits.Connections*mochi.IdleBytes>>20, cfg.Limits.Connections, queues>>20, mochi.OutgoingMax, cfg.Limits.MaxPacketSize>>10)
}

// sourceSays says what a source of pods has said.
func sourceSays(s endpoints.Said) string {
	if s.None() {
		return fmt.Sprintf("it names no pods: %v", s.Err)
	}
	if s.Err != nil {
		return fmt.Sprintf("it cannot be read: %v", s.Err)
	}
	return fmt.Sprintf("it names %d pods", s.Pods)
}

// runs says what the loader will run, and what hinders it on this machine.
func runs(run *config.Run) string {
	number := strconv.Itoa(run.Max)
	if run.Min < run.Max {
		number = fmt.Sprintf("%d to %d", run.Min, run.Max)
	}
	out := fmt.Sprintf("the loader runs %s instances of %s as %s, of up to %d MiB each", number, run.Command[0], run.User, run.Memory>>20)
	hindered, without := instances.Fit(run)
	if why := hindered + without; why != "" {
		out += "; here " + why
	}
	return out
}

// warnings are what run would refuse on this machine, and what is of no use.
func warnings(file string, cfg *config.Config) []string {
	var out []string
	for _, e := range cfg.UnfitInterfaces(func(name string) string { return interfaceUnfit(name, cfg.XDP) }) {
		out = append(out, e.Error())
	}
	for _, e := range cfg.UnfitListeners(func(l *config.Listener) error { _, err := transport.New(l, nil); return err }) {
		out = append(out, e.Error())
	}
	if t := cfg.Scaler.KEDA.TLS; t != nil {
		if _, err := transport.Server(t, nil, nil); err != nil {
			out = append(out, fmt.Sprintf("scaler.keda.tls: %v", err))
		}
	}
	if err := cfg.Untrusted(file); err != nil {
		out = append(out, err.Error())
	}
	out = append(out, cfg.Exposed(file)...)
	if err := page.Check(cfg.Metrics); err != nil {
		out = append(out, err.Error())
	}
	if _, err := auth.Load(&cfg.Auth); err != nil {
		out = append(out, err.Error())
	}
	if len(cfg.Routes) == 0 {
		out = append(out, file+": no routes: no message goes to a function")
	}
	return out
}

// keptBack says why a route is the fallback's though the kernel path serves its function; empty: it is not.
func keptBack(cfg *config.Config, r *config.Route) string {
	fn := cfg.Function(r.Functions[0])
	if _, ok := fn.Graftable(); !ok {
		return ""
	}
	why, _ := r.Graftable(fn)
	return why
}

// way says where the messages of a function are taken, if XDP may grow a packet
// by so many bytes.
func way(cfg *config.Config, fn *config.Function, headroom int) string {
	if why, ok := fn.Graftable(); !ok {
		return fmt.Sprintf("fallback (%s)", why)
	}
	prefix := len(request.Prefix(fn))
	if prefix > len(bpf.EproxyFunction{}.Prefix) {
		return fmt.Sprintf("fallback (request head of %d bytes, the kernel path holds %d)", prefix, len(bpf.EproxyFunction{}.Prefix))
	}
	if why := reach.NoXDP(cfg); why != "" {
		return "TC (" + why + ")"
	}
	who, least := xdpSenders(fn, &cfg.Auth, headroom)
	if len(who) == 0 {
		return fmt.Sprintf("TC (the request head grows a packet by %d bytes or more, XDP can do %d)", least, headroom)
	}
	return fmt.Sprintf("XDP for %s, else TC", strings.Join(who, ", "))
}

// xdpSenders says whose messages XDP takes: client id and user name go along
// with each. least is the growth of a packet from the shortest ones.
func xdpSenders(fn *config.Function, auth *config.Auth, headroom int) (who []string, least int) {
	least = math.MaxInt
	say := func(text, username string) {
		grow := request.Growth(fn, "", username) - len(username)
		if least = min(least, grow); grow < headroom {
			who = append(who, fmt.Sprintf(text, headroom-grow))
		}
	}
	if auth.AllowAnonymous {
		say("client ids of up to %d bytes", "")
	}
	if auth.Logins() {
		say("client ids and user names of up to %d bytes together", "u")
	}
	return who, least
}
