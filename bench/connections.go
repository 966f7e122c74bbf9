package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/lab"
)

// connectionsCommand measures what devices cost that are connected and send nothing.
func connectionsCommand() *cli.Command {
	return &cli.Command{
		Name: "connections", Usage: "memory and processor time of connected devices that send nothing but PINGREQ",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "counts", Value: "1000,10000,100000", Usage: "devices, ascending"},
			&cli.StringFlag{Name: "rows", Value: rowGateway + "," + rowPlain + ",fallback,tc", Usage: "as of bench"},
			&cli.DurationFlag{Name: "keep-alive", Value: time.Minute, Usage: "between two PINGREQs of a device"},
			&cli.DurationFlag{Name: "idle", Value: time.Minute, Usage: "how long processor time is measured"},
			&cli.IntFlag{Name: "sample", Value: 100, Usage: "devices of each count that send one message, QoS 1, in the end"},
		},
		Action: connections,
	}
}

func connections(c *cli.Context) error {
	var counts []int
	for _, s := range strings.Split(c.String("counts"), ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1<<20 || len(counts) > 0 && n <= counts[len(counts)-1] {
			return cliutil.Usagef("--counts %q: ascending numbers from 1 to %d", c.String("counts"), 1<<20)
		}
		counts = append(counts, n)
	}
	return inLab(c, func(b *bench) error {
		for _, row := range strings.Split(c.String("rows"), ",") {
			if err := b.connections(row, counts); err != nil {
				return fmt.Errorf("%s: %w", row, err)
			}
		}
		return nil
	})
}

// connections measures one row with so many devices each time.
func (b *bench) connections(row string, counts []int) (err error) {
	if err := allowFiles(counts[len(counts)-1]); err != nil {
		return err
	}
	p, err := b.serveText(row, connectionsConfig(counts[len(counts)-1]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	f, err := b.newFleet(counts[len(counts)-1])
	if err != nil {
		return err
	}
	defer f.close()
	rest, err := b.occupied(p)
	if err != nil {
		return err
	}
	for _, n := range counts {
		took, err := f.grow(b.c.Context, n)
		if err != nil {
			return fmt.Errorf("%d devices: %w", n, err)
		}
		if err := b.connected(b.c.App.Writer, row, p, f, rest, took); err != nil {
			return fmt.Errorf("%d devices: %w", n, err)
		}
	}
	return nil
}

// connectionsConfig has room for so many devices, and everything else at its default.
func connectionsConfig(n int) string {
	return restConfig + fmt.Sprintf("limits: {connections: %d}\n", max(n, 16384))
}

// memoryOf is what a program occupies: its maps as the kernel accounts for them, and what is its process's alone.
type memoryOf struct{ maps, process int64 }

func (b *bench) occupied(p *lab.Process) (m memoryOf, err error) {
	maps, err := mapsOf(p.PID())
	if err != nil {
		return m, err
	}
	for _, x := range maps {
		m.maps += int64(x.Bytes)
	}
	anon, err := field(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()), "Pss_Anon")
	m.process = anon << 10
	return m, err
}

// connected prints what the devices cost that are connected now.
func (b *bench) connected(w io.Writer, row string, p *lab.Process, f *fleet, rest memoryOf, took time.Duration) error {
	n := int64(len(f.fds))
	before, err := lab.ReadBusy()
	if err != nil {
		return err
	}
	own, err := p.Busy()
	if err != nil {
		return err
	}
	span := b.c.Duration("idle")
	if err := f.ping(b.c.Context, b.c.Duration("keep-alive"), span); err != nil {
		return err
	}
	after, err := lab.ReadBusy()
	if err != nil {
		return err
	}
	ownAfter, err := p.Busy()
	if err != nil {
		return err
	}
	m, err := b.occupied(p)
	if err != nil {
		return err
	}
	sent, err := b.sample(row, f)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%-10s %7d devices: connected in %.1f s; per device %d B of maps, %d B of the process; machine busy %.2f ms/s, of it the program %.2f%s\n",
		row, n, took.Seconds(), (m.maps-rest.maps)/n, (m.process-rest.process)/n,
		after.Since(before).Seconds()/span.Seconds()*1000, (ownAfter-own).Seconds()/span.Seconds()*1000, sent)
	return nil
}

// allowFiles lets this process, and those that it starts, have so many connections.
func allowFiles(n int) error {
	most := uint64(n + 4096)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if old.Cur >= most {
		return nil
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: max(most, old.Max)}); err != nil {
		return fmt.Errorf("%d devices need %d open files in one process, of which %d are allowed (ulimit -Hn): %w", n, most, old.Max, err)
	}
	return nil
}

// fleet is devices that are connected and send nothing but PINGREQ: sockets without goroutines.
type fleet struct {
	l   *lab.Lab
	fds []int
}

// devicesPerAddress is how many connections an address of the devices' host has.
const devicesPerAddress = 50000

// newFleet prepares the devices' host for so many.
func (b *bench) newFleet(n int) (*fleet, error) {
	f := &fleet{l: b.lab}
	err := b.lab.Do(lab.Dev, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for i := 1; i*devicesPerAddress < n; i++ {
			a := &netlink.Addr{IPNet: netlink.NewIPNet(deviceAddress(i).AsSlice())}
			a.Mask = []byte{255, 255, 255, 0}
			if err := netlink.AddrReplace(eth0, a); err != nil {
				return fmt.Errorf("address %s: %w", a, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, b.lab.SetSysctl(lab.Dev, "ipv4/ip_local_port_range", "10000 65000")
}

// deviceAddress is the i-th address of the devices' host.
func deviceAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, 0, byte(2 + i)}) }

func (f *fleet) close() {
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
}

// connecting is how many devices connect at a time.
const connecting = 16

// grow connects devices until there are n. Each has its CONNACK.
func (f *fleet) grow(ctx context.Context, n int) (time.Duration, error) {
	from := len(f.fds)
	fds, errs := make([]int, n-from), make([]error, connecting)
	var wg sync.WaitGroup
	began := time.Now()
	for w := range connecting {
		wg.Go(func() {
			errs[w] = f.l.Do(lab.Dev, func() error {
				for i := w; i < len(fds) && ctx.Err() == nil; i += connecting {
					fd, err := connectDevice(from + i)
					if err != nil {
						return fmt.Errorf("device %d: %w", from+i, err)
					}
					fds[i] = fd
				}
				return ctx.Err()
			})
		})
	}
	wg.Wait()
	for _, fd := range fds {
		if fd > 0 {
			f.fds = append(f.fds, fd)
		}
	}
	return time.Since(began), errors.Join(errs...)
}

// connectDevice is device i's connection, with its CONNACK read.
func connectDevice(i int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	for _, o := range []struct{ level, name, value int }{{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1}, {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return 0, err
		}
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: deviceAddress(i / devicesPerAddress).As4()}); err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: lab.NodeV4.As4(), Port: 1883}); err != nil {
		return 0, err
	}
	id := fmt.Sprintf("idle-%06d", i)
	connect := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)
	if _, err := unix.Write(fd, connect); err != nil {
		return 0, err
	}
	var connack [4]byte
	if n, err := read(fd, connack[:]); err != nil || n != 4 || connack != [4]byte{0x20, 2} {
		return 0, fmt.Errorf("CONNACK %x: %w", connack[:max(n, 0)], err)
	}
	return fd, nil
}

// read reads; a signal of the runtime's ends a call that waits with a timeout, whatever SA_RESTART says (signal(7)).
func read(fd int, b []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

// pingSlices is how often in a second some devices ping.
const pingSlices = 10

// ping has each device send a PINGREQ once per keepAlive, evenly, for a while, and checks that all that were sent
// in the time before are answered.
func (f *fleet) ping(ctx context.Context, keepAlive, span time.Duration) error {
	t := time.NewTicker(time.Second / pingSlices)
	defer t.Stop()
	began, sent := time.Now(), 0
	pinged := make([]bool, len(f.fds))
	var buf [16]byte
	for time.Since(began) < span {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		due := int(float64(len(f.fds)) * time.Since(began).Seconds() / keepAlive.Seconds())
		for ; sent < due; sent++ {
			i := sent % len(f.fds)
			if pinged[i] {
				if n, _, err := unix.Recvfrom(f.fds[i], buf[:], unix.MSG_DONTWAIT); err != nil || n != 2 {
					return fmt.Errorf("device %d: PINGRESP %x: %w", i, buf[:max(n, 0)], err)
				}
			}
			pinged[i] = true
			if _, err := unix.Write(f.fds[i], []byte{0xc0, 0}); err != nil {
				return fmt.Errorf("device %d: PINGREQ: %w", i, err)
			}
		}
	}
	for i, p := range pinged {
		if p {
			if n, err := read(f.fds[i], buf[:]); err != nil || n != 2 {
				return fmt.Errorf("device %d: PINGRESP %x: %w", i, buf[:max(n, 0)], err)
			}
		}
	}
	return nil
}

// serveText starts what stands between devices and pods, with this configuration where it is eproxy.
func (b *bench) serveText(row, text string) (*lab.Process, error) {
	if row == rowGateway || row == rowPlain {
		return b.serve(row)
	}
	return b.lab.StartEproxy(b.c.Context, b.dir, lab.Eproxy{Bin: b.bin, Mode: row, Config: text})
}
