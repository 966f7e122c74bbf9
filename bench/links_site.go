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

// site is a network with an emulated link between the devices and a node that runs
// eproxy one way, while other sites run it other ways.
type site struct {
	ctx   context.Context
	lab   *lab.Lab
	link  *link.Link
	maps  *pinned.Maps // nil: nothing is attached
	after []func()     // undoes what was made

	connect func(context.Context) (net.Conn, error) // a device's TCP
}

// openSite starts a row.
func openSite(c *cli.Context, row string) (s *site, err error) {
	s = &site{ctx: c.Context}
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
	if s.lab, err = lab.NewWired(lab.Dev); err != nil {
		return s, err
	}
	s.after = append(s.after, s.lab.Close)
	if err := s.tune(c.String("congestion"), c.String("device") == deviceNoSACK); err != nil {
		return s, err
	}
	for _, x := range c.StringSlice("sysctl") {
		name, value, _ := strings.Cut(x, "=")
		if err := errors.Join(s.lab.SetSysctl(lab.Dev, name, value), s.lab.SetSysctl(lab.Node, name, value)); err != nil {
			return s, err
		}
	}
	err = s.lab.Do(lab.Wire, func() error {
		s.link, err = link.Open(lab.WireEnds(lab.Dev))
		return err
	})
	if err != nil {
		return s, err
	}
	s.after = append(s.after, s.link.Close)
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

func (s *site) startEproxy(ctx context.Context, bin, row string) error {
	dir, err := os.MkdirTemp("", "eproxy-bench-")
	if err != nil {
		return err
	}
	s.after = append(s.after, func() { _ = os.RemoveAll(dir) })
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
	for _, r := range []lab.Role{lab.Dev, lab.Node} {
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

// dialGood connects to the same server by a pod's link.
func (s *site) dialGood(ctx context.Context) (net.Conn, error) {
	return s.lab.Dial(ctx, lab.Pod0, net.JoinHostPort(lab.NodeV4.String(), "1883"))
}

// taken are the messages that the programs took so far.
func (s *site) taken() (n uint64, err error) {
	if s.maps == nil {
		return 0, nil
	}
	routes, err := s.maps.Routes()
	for _, r := range routes {
		n += r.Stats.Taken[0] + r.Stats.Taken[1]
	}
	return n, err
}

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
	s.link.Begin(0, [2]link.Params{p, p})
	var c net.Conn
	err = s.lab.Do(lab.Dev, func() (err error) {
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
	return s.link.Counts(link.AtoB).Late, nil
}

// capacity is how many packets per second the link carries of a bulk transfer, in
// both directions together, whose ends run on the same machine.
func (s *site) capacity() (float64, error) {
	const span = time.Second
	s.link.Begin(0, [2]link.Params{})
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
	c, err := s.lab.Dial(s.ctx, lab.Dev, ln.Addr().String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(span))
	b := make([]byte, 1<<16)
	for err == nil {
		_, err = c.Write(b)
	}
	up, down := s.link.Counts(link.AtoB), s.link.Counts(link.BtoA)
	return float64(up.Passed+down.Passed) / span.Seconds(), nil
}
