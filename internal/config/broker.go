package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
)

// broker reads which MQTT server serves what is not routed.
func (b *builder) broker(r *rawBroker) {
	c := &b.cfg.Broker
	*c = Broker{Mode: or(r.Mode, "embedded"),
		CA: b.absolute("$.broker.ca", "broker.ca", r.CA)}
	switch c.Mode {
	case "embedded":
		if r.URL != "" || len(r.URLs) > 0 || r.CA != "" {
			b.fail("$.broker", "broker: url, urls and ca are those of mode: relay")
		}
		return
	case "relay":
	default:
		b.fail("$.broker.mode", "broker mode %q: must be embedded or relay", c.Mode)
		return
	}
	if r.URL != "" {
		b.brokerServer("$.broker.url", r.URL)
	}
	for i, u := range r.URLs {
		b.brokerServer(fmt.Sprintf("$.broker.urls[%d]", i), u)
	}
	switch {
	case r.URL == "" && len(r.URLs) == 0:
		b.fail("$.broker", "broker: mode relay needs url, as tcp://127.0.0.1:1884, or several of them in urls")
	case r.CA != "" && !slices.ContainsFunc(c.Servers, func(s BrokerServer) bool { return s.TLS }):
		b.fail("$.broker.ca", "broker.ca: no broker is reached by tls://")
	}
}

// brokerServer reads where a broker is.
func (b *builder) brokerServer(path, s string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "tcp" && u.Scheme != "tls" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		b.fail(path, "broker %q: must be as tcp://127.0.0.1:1884 or tls://broker.example:8883", s)
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"tcp": "1883", "tls": "8883"}[u.Scheme]
	}
	n := BrokerServer{Address: net.JoinHostPort(u.Hostname(), port), TLS: u.Scheme == "tls"}
	if slices.ContainsFunc(b.cfg.Broker.Servers, func(o BrokerServer) bool { return o.Address == n.Address }) {
		b.fail(path, "broker %q is a duplicate", s)
	}
	b.cfg.Broker.Servers = append(b.cfg.Broker.Servers, n)
}

// relay refuses what relayed clients cannot have: what they may subscribe to is the broker's business, which would not know of it.
func (b *builder) relay(r *raw) {
	if !b.cfg.Broker.Relay() {
		return
	}
	if r.Persistence != nil {
		b.fail("$.persistence", "persistence: with broker mode relay sessions are the broker's, which keeps them")
	}
	for i, f := range r.Functions {
		if f.DeadLetter != nil && f.DeadLetter.Topic != "" {
			b.fail(fmt.Sprintf("$.functions[%d].dead_letter.topic", i), "dead_letter.topic: with broker mode relay nobody publishes there: use file or url")
		}
	}
	if r.Auth == nil {
		return
	}
	for i, u := range r.Auth.Users {
		b.relayedACL(fmt.Sprintf("$.auth.users[%d]", i), u.Subscribe, u.DenySubscribe)
	}
	b.relayedACL("$.auth.default", r.Auth.Default.Subscribe, r.Auth.Default.DenySubscribe)
	if j := r.Auth.JWT; j != nil && j.Subscribe != "" {
		b.fail("$.auth.jwt.subscribe", "auth.jwt.subscribe: with broker mode relay the broker decides who may subscribe")
	}
}

func (b *builder) relayedACL(path string, allowed, denied []string) {
	for _, x := range []struct {
		key     string
		filters []string
	}{{"subscribe", allowed}, {"deny_subscribe", denied}} {
		if x.filters != nil {
			b.fail(path+"."+x.key, "%s: with broker mode relay the broker decides who may subscribe", x.key)
		}
	}
}
