package config

import (
	"errors"
	"net"
	"strconv"
	"strings"
)

// HostPort is a host name in DNS, and the port of the pods there. Port 0: Host is
// the name of SRV records (RFC 2782), which name hosts and ports.
type HostPort struct {
	Host string
	Port uint16
}

func (h HostPort) String() string {
	if h.Port == 0 {
		return h.Host
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port)))
}

// parseHost reads host:port, where host is a name.
func parseHost(s string) (HostPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || !hostName(host) {
		return HostPort{}, errors.New("must be host:port, as temp.local:8080")
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return HostPort{}, errors.New("must have a port from 1 to 65535")
	}
	return HostPort{host, uint16(p)}, nil
}

// parseDNS reads host:port, or _service._proto.host for SRV records.
func parseDNS(s string) (HostPort, error) {
	if !strings.HasPrefix(s, "_") {
		return parseHost(s)
	}
	labels := strings.SplitN(s, ".", 3)
	if len(labels) < 3 || !strings.HasPrefix(labels[1], "_") || !hostName(labels[2]) {
		return HostPort{}, errors.New("must be _service._proto.host, as _http._tcp.temp.edge.svc.cluster.local")
	}
	return HostPort{Host: s}, nil
}

// hostName says whether a name may be a host's (RFC 1123 section 2.1; '_' is not,
// but is met). Its last label is no number, so that an address with a mistake in it
// is no name.
func hostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, notInName) {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func notInName(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
