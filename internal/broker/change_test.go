package broker

import (
	"net/netip"
	"testing"
	"time"

	"eproxy/internal/auth"
	"eproxy/internal/config"
)

type nobody struct{ Frontend }

func (nobody) Close() {}

// deafPeer is a connection that nothing is expected of.
type deafPeer struct{ Peer }

func (deafPeer) Disconnect(byte, string) {}
func (deafPeer) Abort()                  {}

// grafts notes what the kernel path is notified of.
type grafts struct{ rights []uint32 }

func (g *grafts) Established(c ConnInfo) Graft {
	g.rights = append(g.rights, c.Rights)
	return &graft{all: &g.rights}
}

type graft struct {
	Graft
	all *[]uint32
}

func (g *graft) Authorize(rights uint32) { *g.all = append(*g.all, rights) }
func (g *graft) Stop()                   {}
func (g *graft) Copies() uint32          { return 0 }
func (g *graft) Close()                  {}

// mayDo is a configuration under which dev may publish to these filters; nil: to all.
func mayDo(publish ...string) *config.Config {
	c := &config.Config{Auth: config.Auth{Users: []config.User{{Username: "dev", PasswordHash: "h", Publish: publish}}}}
	c.Limits.InflightPerClient = 1
	return c
}

// accountOf is the account of that name, as a certificate proves it.
func accountOf(t *testing.T, cfg *config.Config, name string) *auth.Account {
	t.Helper()
	accounts, err := auth.Load(&cfg.Auth)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := accounts.Certified(name)
	if !ok {
		t.Fatalf("no account %s", name)
	}
	return a
}

// mustMay checks what a session may publish to.
func mustMay(t *testing.T, x *Session, when string, topic string, want bool) {
	t.Helper()
	if got, _, _ := x.mayPublish(topic); got != want {
		t.Errorf("%s: may publish to %s: %v, want %v", when, topic, got, want)
	}
}

// TestNoMessageUnderAMixOfConfigurations: while routes are switched a client has
// only the rights that it has before and after, whether it was connected before or
// connects meanwhile, and the kernel path knows before the switch. A change that is
// given up gives them back.
func TestNoMessageUnderAMixOfConfigurations(t *testing.T) {
	old, next := mayDo("a", "b"), mayDo("b", "c")
	g := &grafts{}
	s, err := New(Options{Config: old, Grafter: g, Frontend: func(*Server) (Frontend, error) { return nobody{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	open := func(client string) *Session {
		id := Identity{ClientID: client, Username: "dev", Account: accountOf(t, old, "dev"), Remote: netip.MustParseAddrPort("192.0.2.1:1")}
		return s.Open(id, &Connect{ClientID: client, Version: 5, SessionExpiry: time.Minute}, deafPeer{}, &Transport{})
	}
	connected := open("connected")
	notified := len(g.rights)

	change, err := s.Prepare(next)
	if err != nil {
		t.Fatal(err)
	}
	mustMay(t, connected, "prepared", "a", true)
	for _, end := range []struct {
		name   string
		do     func()
		mayA   bool
		mayC   bool
		client string
	}{{"cancelled", change.Cancel, true, false, "connects 1"}, {"committed", change.Commit, false, true, "connects 2"}} {
		change.Restrict()
		if len(g.rights) == notified {
			t.Errorf("the kernel path is not notified of the restriction before it is %s", end.name)
		}
		sessions := []*Session{connected, open(end.client)}
		for _, x := range sessions {
			mustMay(t, x, x.ClientID+", restricted", "a", false)
			mustMay(t, x, x.ClientID+", restricted", "b", true)
			mustMay(t, x, x.ClientID+", restricted", "c", false)
		}
		end.do()
		for _, x := range sessions {
			mustMay(t, x, x.ClientID+", "+end.name, "a", end.mayA)
			mustMay(t, x, x.ClientID+", "+end.name, "b", true)
			mustMay(t, x, x.ClientID+", "+end.name, "c", end.mayC)
		}
		notified = len(g.rights)
	}
}

// TestReloadThatChangesNoRightsKeepsGrants: the kernel path hears nothing of a
// change that leaves a client's rights as they are.
func TestReloadThatChangesNoRightsKeepsGrants(t *testing.T) {
	for _, publish := range [][]string{nil, {"a", "b"}} {
		cfg := mayDo(publish...)
		g := &grafts{}
		s, err := New(Options{Config: cfg, Grafter: g, Frontend: func(*Server) (Frontend, error) { return nobody{}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		s.Open(Identity{ClientID: "c", Username: "dev", Account: accountOf(t, cfg, "dev")}, &Connect{ClientID: "c", Version: 5}, deafPeer{}, &Transport{})
		if err := s.Reload(mayDo(publish...)); err != nil {
			t.Fatal(err)
		}
		if len(g.rights) != 1 {
			t.Errorf("%v: the kernel path was given rights %v", publish, g.rights)
		}
		s.Close()
	}
}
