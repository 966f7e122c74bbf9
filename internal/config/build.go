package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"eproxy/internal/abi"
)

// DefaultBPFFS is where pins are if the file does not say it.
const DefaultBPFFS = "/sys/fs/bpf/eproxy"

// Defaults of what the file leaves out.
const (
	defaultConcurrency = 16
	defaultTimeout     = 30 * time.Second
	defaultAttempts    = 3
	defaultBackoff     = 200 * time.Millisecond
	defaultMaxBackoff  = 10 * time.Second
	defaultDrain       = 10 * time.Second
	defaultPacket      = 1<<20 + 1024
)

func (b *builder) build(r *raw) {
	c := b.cfg
	b.missing(r)
	b.interfaces(r.Interfaces)
	c.XDP = or(r.XDP, "auto")
	if !slices.Contains([]string{"auto", "on", "native", "generic", "off"}, c.XDP) {
		b.fail("$.xdp", "xdp %q: must be auto, on, native, generic or off", r.XDP)
	}
	if !slices.Contains([]string{"", "on", "off"}, r.PodsGRO) {
		b.fail("$.pods_gro", "pods_gro %q: must be on or off", r.PodsGRO)
	}
	c.PodsGRO = r.PodsGRO == "on"
	b.listeners(r.Listeners)
	b.broker(&r.Broker)
	b.auth(r.Auth)
	b.scaler(&r.Scaler)
	c.Monitoring = r.Monitoring
	b.spans(&r.Tracing)
	for i := range r.Functions {
		b.function(fmt.Sprintf("$.functions[%d]", i), &r.Functions[i])
	}
	b.deadLetterFiles()
	b.routes(r.Routes)
	b.cluster(&r.Kubernetes)
	b.runtime(&r.Runtime)
	b.persistence(r.Persistence)
	c.keepCopies(c.Routes)
	b.metrics(&r.Metrics)
	b.limits(&r.Limits)
	b.relay(r)
	c.DrainTimeout = b.duration("$.drain_timeout", r.DrainTimeout, defaultDrain)
	c.BPFFS = or(r.BPFFS, DefaultBPFFS)
	if !strings.HasPrefix(c.BPFFS, "/") || strings.Contains(c.BPFFS[strings.LastIndex(c.BPFFS, "/"):], ".") {
		b.fail("$.bpffs", "bpffs %q: must be an absolute path whose last part has no dot", c.BPFFS)
	}
}

// metrics is the listener, and the page there: it shows client traffic, so that nobody sees it without a token.
func (b *builder) metrics(r *rawMetrics) {
	b.cfg.Metrics = Metrics{Listen: r.Listen, Page: r.Page, TokenFile: b.absolute("$.metrics.token_file", "metrics.token_file", r.TokenFile)}
	if r.Listen != "" {
		b.address("$.metrics.listen", r.Listen)
	}
	switch {
	case r.Page && r.Listen == "":
		b.fail("$.metrics.page", "metrics.page: needs metrics.listen, the address where it is served")
	case r.Page && r.TokenFile == "":
		b.fail("$.metrics.page", "metrics.page: needs metrics.token_file, a file with the token that lets people see it (openssl rand -hex 32)")
	case !r.Page && r.TokenFile != "":
		b.fail("$.metrics.token_file", "metrics.token_file: is for the page alone, which is off (metrics.page: true)")
	}
}

// missing notes the keys without which nothing can be delivered.
func (b *builder) missing(r *raw) {
	if len(r.Interfaces) == 0 && slices.Contains(b.needs, NeedInterfaces) {
		b.fail("$.interfaces", "no interfaces: name those of this node that devices arrive on, as interfaces: [eth0]")
	}
	if len(r.Functions) == 0 && len(r.Kubernetes.Routes) == 0 {
		b.fail("$.functions", "no functions: messages need at least one, with name, url and pods, and a route to it")
	}
}

func (b *builder) interfaces(names []string) {
	for i, name := range names {
		path := fmt.Sprintf("$.interfaces[%d]", i)
		if name == "" || len(name) > 15 || strings.ContainsAny(name, "/ ") {
			b.fail(path, "interface %q: not a name of a network interface", name)
		}
		if slices.Index(names, name) != i {
			b.fail(path, "interface %q is a duplicate", name)
		}
		b.cfg.interfaceLines = append(b.cfg.interfaceLines, b.line(path))
	}
	b.cfg.Interfaces = names
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// named is a path as users know it: a function's by its name.
func (b *builder) named(path string) string {
	for i, f := range b.raw.Functions {
		if key, ok := strings.CutPrefix(path, fmt.Sprintf("$.functions[%d].", i)); ok && f.Name != "" {
			return fmt.Sprintf("function %q: %s", f.Name, key)
		}
	}
	return pretty(path)
}

func (b *builder) duration(path string, d *duration, fallback time.Duration) time.Duration {
	v, err := d.value(fallback)
	if err != nil || v <= 0 {
		b.fail(path, "%s: duration %q: must be positive, as 200ms or 30s", b.named(path), string(*d))
	}
	return v
}

func (b *builder) number(path string, n *int, fallback, low, high int) int {
	if n == nil {
		return fallback
	}
	if *n < low || *n > high {
		b.fail(path, "%s %d: must be %d to %d", b.named(path), *n, low, high)
	}
	return *n
}

func (b *builder) address(path, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		b.fail(path, "%s: address %q: must be host:port or :port", b.named(path), addr)
	}
}

func (b *builder) limits(r *rawLimits) {
	b.cfg.Limits = Limits{
		Connections:       b.number("$.limits.connections", r.Connections, 16384, 1, 1<<20),
		Pods:              b.number("$.limits.pods", r.Pods, 64, 1, 4096),
		MaxPacketSize:     b.number("$.limits.max_packet_size", r.MaxPacketSize, defaultPacket, 1024, 268435460),
		InflightPerClient: b.number("$.limits.inflight_per_client", r.InflightPerClient, abi.InflightMax, 1, abi.InflightMax),
		Routes:            b.number("$.limits.routes", r.Routes, 16384, 1, 1<<20),
		Observed:          b.number("$.limits.observed", r.Observed, 16384, 1, 1<<20),
		Copies:            b.number("$.limits.copies", r.Copies, 512<<10, 4096, 16<<20),
	}
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Scheme != "http":
		return nil, fmt.Errorf("scheme must be http")
	case u.Host == "":
		return nil, fmt.Errorf("no host")
	case u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("user and fragment have no place here")
	case strings.ContainsFunc(u.Host+u.RequestURI(), func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, fmt.Errorf("blanks and characters that are not ASCII must be percent-encoded")
	}
	return u, nil
}

func parsePod(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return a, fmt.Errorf("must be address:port or host:port, as 10.2.0.2:8080, [fd00::2]:8080 or temp.local:8080")
	}
	if a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().IsUnspecified() {
		return a, fmt.Errorf("must be an address and a port that can be connected to")
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}
