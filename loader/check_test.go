package main

import (
	"net/url"
	"strings"
	"testing"

	"eproxy/internal/config"
)

// TestWayCountsTheSender: what `loader check` says of XDP counts the headers that say who sent a message.
func TestWayCountsTheSender(t *testing.T) {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	users := []config.User{{Username: "dev"}}
	for _, c := range []struct {
		auth config.Auth
		from bool
		want string
	}{
		{auth: config.Auth{AllowAnonymous: true}, want: "XDP for client ids of up to 37 bytes, else TC"},
		{auth: config.Auth{Users: users}, want: "XDP for client ids and user names of up to 18 bytes together, else TC"},
		{auth: config.Auth{AllowAnonymous: true, Users: users},
			want: "XDP for client ids of up to 37 bytes, client ids and user names of up to 18 bytes together, else TC"},
		{auth: config.Auth{AllowAnonymous: true}, from: true, want: "fallback (cloudevents.from_publisher: payloads may be events)"},
	} {
		cfg := &config.Config{Auth: c.auth}
		fn := &config.Function{URL: u, CloudEvents: config.CloudEvents{FromPublisher: c.from}}
		if got := way(cfg, fn, 216); got != c.want {
			t.Errorf("%+v from_publisher %v: %q, want %q", c.auth, c.from, got, c.want)
		}
	}
	long := &config.Function{URL: u, Headers: map[string]string{"X-A": strings.Repeat("a", 40)}}
	if got := way(&config.Config{Auth: config.Auth{AllowAnonymous: true}}, long, 216); !strings.HasPrefix(got, "TC (the request head grows a packet by 226 bytes or more") {
		t.Error(got)
	}
}

// TestKeptBack: an ordered route to a function with a spool is the fallback's, other routes to it are not.
func TestKeptBack(t *testing.T) {
	plain, spooling := &config.Function{Name: "plain"}, &config.Function{Name: "spooling"}
	spooling.Queue.Spool = &config.Spool{}
	cfg := &config.Config{Functions: []*config.Function{plain, spooling}}
	for _, c := range []struct {
		function string
		ordered  bool
		kept     bool
	}{{"plain", true, false}, {"spooling", false, false}, {"spooling", true, true}} {
		if why := keptBack(cfg, &config.Route{Functions: []string{c.function}, Ordered: c.ordered}); (why != "") != c.kept {
			t.Errorf("%s, ordered %t: %q", c.function, c.ordered, why)
		}
	}
}
