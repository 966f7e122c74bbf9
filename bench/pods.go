package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/lab"
)

// podsCommand measures what the observer costs with few and with many pods.
func podsCommand() *cli.Command {
	return &cli.Command{
		Name: "pods", Usage: "what monitoring costs with few and with many pods, each in a network namespace of its own: per packet, at rest, and per scrape",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "pods", Value: "1,100,500", Usage: "how many"},
			&cli.IntFlag{Name: "requests", Value: 20000, Usage: "over all pods `N`"},
			&cli.DurationFlag{Name: "rest", Value: 5 * time.Second, Usage: "how long processor time at rest is measured"},
		},
		Action: manyPods,
	}
}

// podHost is a network namespace with one pod, whose server runs in this process.
type podHost struct {
	address string
	server  *http.Server
	netns   int
}

func (h *podHost) close() {
	_ = h.server.Close()
	_ = unix.Close(h.netns) // the last reference: its interface goes with it
}

// podsCost is what was measured with so many pods.
type podsCost struct {
	pods     int
	start    time.Duration      // until the loader serves
	rest     float64            // processor time of the loader, per second
	memory   int64              // of the process
	scrape   time.Duration      // processor time of the loader
	perRun   map[string]float64 // nanoseconds of a run, by program
	answered int
}

func manyPods(c *cli.Context) error {
	measured, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return fmt.Errorf("measure the programs: %w", err)
	}
	defer measured.Close()
	var all []*podsCost
	for _, text := range strings.Split(c.String("pods"), ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return cliutil.Usagef("--pods %q: 1 to 1000", text)
		}
		cost, err := podsCostOf(c, n)
		if err != nil {
			return fmt.Errorf("%d pods: %w", n, err)
		}
		all = append(all, cost)
	}
	printPods(c.App.Writer, all)
	return nil
}

func podsCostOf(c *cli.Context, n int) (cost *podsCost, err error) {
	b, err := newLab(c)
	defer b.close()
	if err != nil {
		return nil, err
	}
	var hosts []*podHost
	for i := range n {
		h, err := b.podHost(i)
		if err != nil {
			return nil, err
		}
		defer h.close()
		hosts = append(hosts, h)
	}
	cost = &podsCost{pods: n}
	began := time.Now()
	p, err := b.lab.StartEproxy(c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: rowTC, Config: podsConfig(hosts)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	cost.start = time.Since(began)
	return cost, cost.measure(b, p, hosts)
}

// podHost makes a network namespace that is joined with the node, and serves there.
func (b *bench) podHost(i int) (*podHost, error) {
	h := &podHost{server: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "ok\n")
	})}}
	subnet := fmt.Sprintf("10.%d.%d.", 100+i/250, i%250)
	h.address = subnet + "2:8080"
	type result struct {
		ln  net.Listener
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function, and nobody else gets it in that namespace
		ln, err := b.joinPod(h, i, subnet)
		made <- result{ln, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, r.err
	}
	go func() { _ = h.server.Serve(r.ln) }()
	return h, nil
}

// joinPod moves the thread into a new namespace, and joins that with the node.
func (b *bench) joinPod(h *podHost, i int, subnet string) (net.Listener, error) {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err != nil {
		return nil, err
	}
	if h.netns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	name := fmt.Sprint("many", i)
	err = b.lab.Do(lab.Node, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(h.netns)}
		veth.Name = name
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
		return addressed(name, subnet+"1/30")
	})
	if err != nil {
		return nil, err
	}
	if err := addressed("eth0", subnet+"2/30"); err != nil {
		return nil, err
	}
	return net.Listen("tcp", h.address)
}

// addressed brings an interface of this thread's namespace up.
func addressed(name, address string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
}

func podsConfig(hosts []*podHost) string {
	var pods []string
	for _, h := range hosts {
		pods = append(pods, strconv.Quote(h.address))
	}
	return fmt.Sprintf("monitoring: true\nmetrics: {listen: \"127.0.0.1:9464\"}\nlimits: {pods: 1024}\nfunctions:\n  - {name: temp, url: \"http://temp.local/\", pods: [%s]}\nroutes:\n  - {topic: temp/#, function: temp}\n",
		strings.Join(pods, ", "))
}

// measure makes requests to all pods by turns, scrapes, and looks at what the loader does at rest.
func (x *podsCost) measure(b *bench, p *lab.Process, hosts []*podHost) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return b.lab.Dial(ctx, lab.Node, address)
	}}}
	defer client.CloseIdleConnections()
	get := func(url string) error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	before, err := observerStats()
	if err != nil {
		return err
	}
	for i := range b.c.Int("requests") {
		if err := get("http://" + hosts[i%len(hosts)].address + "/"); err != nil {
			return err
		}
		x.answered++
	}
	after, err := observerStats()
	if err != nil {
		return err
	}
	x.perRun = make(map[string]float64)
	for name, a := range after {
		x.perRun[name] = float64(a.Runtime-before[name].Runtime) / float64(max(a.RunCount-before[name].RunCount, 1))
	}
	const scrapes = 20
	spent, err := p.Busy()
	if err != nil {
		return err
	}
	for range scrapes {
		if err := get("http://127.0.0.1:9464/metrics"); err != nil {
			return err
		}
	}
	scraped, err := p.Busy()
	if err != nil {
		return err
	}
	x.scrape = (scraped - spent) / scrapes
	return x.atRest(b, p)
}

func (x *podsCost) atRest(b *bench, p *lab.Process) error {
	anon, err := field(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()), "Pss_Anon")
	if err != nil {
		return err
	}
	x.memory = anon << 10
	before, err := p.Busy()
	if err != nil {
		return err
	}
	span := b.c.Duration("rest")
	time.Sleep(span)
	after, err := p.Busy()
	x.rest = (after - before).Seconds() / span.Seconds()
	return err
}

// observerStats are the observer's programs by name; those of other loaders, if any, are added up.
func observerStats() (map[string]ebpf.ProgramStats, error) {
	out := make(map[string]ebpf.ProgramStats)
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		if err := addStats(out, id); err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
	}
}

func addStats(to map[string]ebpf.ProgramStats, id ebpf.ProgramID) error {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil || info.Name != "observe_out" && info.Name != "observe_in" {
		return err
	}
	s, err := prog.Stats()
	if err != nil {
		return err
	}
	sum := to[info.Name]
	sum.Runtime += s.Runtime
	sum.RunCount += s.RunCount
	to[info.Name] = sum
	return nil
}

func printPods(w io.Writer, all []*podsCost) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "pods\trequests\tobserve_out ns/packet\tobserve_in ns/packet\tstart s\tat rest ms/s\tper pod us/s\tprocess MiB\tscrape ms\tper pod us")
	for _, x := range all {
		fmt.Fprintf(tw, "%d\t%d\t%.0f\t%.0f\t%.1f\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\n", x.pods, x.answered, x.perRun["observe_out"], x.perRun["observe_in"],
			x.start.Seconds(), x.rest*1000, x.rest*1e6/float64(x.pods), mebi(x.memory), x.scrape.Seconds()*1000, x.scrape.Seconds()*1e6/float64(x.pods))
	}
	_ = tw.Flush()
}
