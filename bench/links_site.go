package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/internal/pinned"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/link"
)

// farSides are the hosts behind a bad link, by the name of the side.
var farSides = map[string][]lab.Role{
	sideDevices: {lab.Dev},
	sidePods:    {lab.Pod0, lab.Pod1},
}

// site is a network with an emulated link between the devices, or each pod, and a
// node that runs eproxy one way, while other sites run it other ways.
type site struct {
	ctx   context.Context
	lab   *lab.Lab
	far   []lab.Role   // who is behind a bad link
	links []*link.Link // of each of them
	maps  *pinned.Maps // nil: nothing is attached
	after []func()     // undoes what was made

	connect func(context.Context) (net.Conn, error) // a device's TCP
}

// openSite starts a row.
func openSite(c *cli.Context, row string) (s *site, err error) {
	s = &site{ctx: c.Context, far: farSides[c.String("side")]}
	s.connect = func(ctx context.Context) (net.Conn, error) {
		return s.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	if s.lab, err = lab.NewWired(s.far...); err != nil {
		return s, err
	}
	s.after = append(s.after, s.lab.Close)
	if err := s.tune(c.String("congestion"), c.String("device") == deviceNoSACK); err != nil {
		return s, err
	}
	for _, x := range c.StringSlice("sysctl") {
		name, value, _ := strings.Cut(x, "=")
		for _, r := range lab.Roles {
			if err := s.lab.SetSysctl(r, name, value); err != nil {
				return s, err
			}
		}
	}
	if err := s.openLinks(); err != nil {
		return s, err
	}
	if c.String("device") == deviceLwIP {
		p, err := s.lab.StartLwIP(c.Context, filepath.Join(filepath.Dir(self), "lwip-relay"))
		if err != nil {
			return s, err
		}
		s.after = append(s.after, func() { _ = p.Stop() })
		s.connect = s.lab.DialLwIP
	}
	_, stop, err := startFunctions(c.Context, s.lab, self)
	if err != nil {
		return s, err
	}
	s.after = append(s.after, stop)
	return s, s.startEproxy(c.Context, filepath.Dir(self), row)
}

// openLinks opens the link of each that is behind one.
func (s *site) openLinks() error {
	return s.lab.Do(lab.Wire, func() error {
		for _, r := range s.far {
			k, err := link.Open(lab.WireEnds(r))
			if err != nil {
				return err
			}
			s.links = append(s.links, k)
			s.after = append(s.after, k.Close)
		}
		return nil
	})
}

// begin gives the links another seed and shape. Devices connect anew in each run, and meet
// what those of the other rows meet; the connections to pods stay from run to run.
func (s *site) begin(seed uint64, params [2]link.Params) {
	if s.far[0] == lab.Dev {
		s.links[0].Begin(seed, params)
		return
	}
	for i, k := range s.links {
		k.Continue(seed+uint64(i)<<32, params)
	}
}

// counts are those of all links and both directions.
func (s *site) counts() (sum link.Counts) {
	for _, k := range s.links {
		for _, d := range []link.Direction{link.AtoB, link.BtoA} {
			n := k.Counts(d)
			sum.Packets += n.Packets
			sum.Passed += n.Passed
			sum.Lost += n.Lost
			sum.Overflow += n.Overflow
			sum.Long += n.Long
			sum.Late.Add(n.Late)
		}
	}
	return sum
}

func (s *site) startEproxy(ctx context.Context, bin, row string) error {
	dir, err := os.MkdirTemp("", "eproxy-bench-")
	if err != nil {
		return err
	}
	s.after = append(s.after, func() { _ = os.RemoveAll(dir) })
	if row == rowControl {
		row = rowFallback
	}
	p, err := s.lab.StartEproxy(ctx, dir, lab.Eproxy{Bin: bin, Mode: row, Config: tunedConfig})
	if err != nil {
		return err
	}
	s.after = append(s.after, func() { _ = p.Stop() })
	if row == rowFallback {
		return nil
	}
	if s.maps, err = pinned.Open(s.lab.BPFFS()); err != nil {
		return err
	}
	s.after = append(s.after, s.maps.Close)
	return nil
}

func (s *site) close() {
	for _, f := range slices.Backward(s.after) {
		f()
	}
}

// tune makes TCP forget each connection when it ends, so that a run does not begin
// with what the run before it learnt, sets its congestion control, and takes back the
// lab's limit of its backoff.
func (s *site) tune(congestion string, noSACK bool) error {
	var err error
	for _, r := range lab.Roles {
		e := s.lab.SetSysctl(r, "ipv4/tcp_congestion_control", congestion)
		if errors.Is(e, fs.ErrPermission) {
			e = fmt.Errorf("%w: a namespace may have what net.ipv4.tcp_allowed_congestion_control of the machine lists", e)
		}
		err = errors.Join(err, e, s.lab.SetSysctl(r, "ipv4/tcp_no_metrics_save", "1"))
		if e := s.lab.SetSysctl(r, "ipv4/tcp_rto_max_ms", "120000"); !errors.Is(e, fs.ErrNotExist) { // new in 6.15
			err = errors.Join(err, e)
		}
	}
	if noSACK {
		err = errors.Join(err, s.lab.SetSysctl(lab.Dev, "ipv4/tcp_sack", "0"))
	}
	return err
}

// dial connects a device. When it closes, nothing of the connection is left to
// disturb the next run.
func (s *site) dial(ctx context.Context) (net.Conn, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	return c, c.(*net.TCPConn).SetLinger(0)
}

// dialGood connects to the same server by a link without delay and loss.
func (s *site) dialGood(ctx context.Context) (net.Conn, error) {
	near := lab.Pod0
	if s.far[0] == lab.Pod0 {
		near = lab.Dev
	}
	return s.lab.Dial(ctx, near, net.JoinHostPort(lab.NodeV4.String(), "1883"))
}

// taken are the messages that the programs took so far.
func (s *site) taken() (uint64, error) { return takenOf(s.maps) }

// limits measures what the emulated link itself adds and how much it carries.
func (s *site) limits() (string, error) {
	late, err := s.lateness()
	if err != nil {
		return "", err
	}
	rate, err := s.capacity()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("the link itself, at rest: packets leave less than %s (median), %s (99 %%) late; it carries %.0f packets per second of a bulk transfer",
		late.Quantile(0.5), late.Quantile(0.99), rate), nil
}

// lateness is by how much more than the delay that it is told the link delays
// packets that come one by one.
func (s *site) lateness() (late link.Lateness, err error) {
	const packets, delay, gap = 500, 20 * time.Millisecond, 2 * time.Millisecond
	p := link.Params{Delay: delay}
	s.begin(0, [2]link.Params{p, p})
	var c net.Conn
	err = s.lab.Do(s.far[0], func() (err error) {
		c, err = net.Dial("udp", net.JoinHostPort(lab.NodeV4.String(), "9"))
		return err
	})
	if err != nil {
		return late, err
	}
	defer c.Close()
	tick := time.NewTicker(gap)
	defer tick.Stop()
	for range packets {
		_, _ = c.Write([]byte{0}) // refused: nobody listens
		<-tick.C
	}
	return s.links[0].Counts(link.AtoB).Late, nil
}

// capacity is how many packets per second the link carries of a bulk transfer, in
// both directions together, whose ends run on the same machine.
func (s *site) capacity() (float64, error) {
	const span = time.Second
	s.begin(0, [2]link.Params{})
	ln, err := s.lab.Listen(lab.Node, net.JoinHostPort(lab.NodeV4.String(), "9"))
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	c, err := s.lab.Dial(s.ctx, s.far[0], ln.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(span))
	b := make([]byte, 1<<16)
	for err == nil {
		_, err = c.Write(b)
	}
	return float64(s.counts().Passed) / span.Seconds(), nil
}
