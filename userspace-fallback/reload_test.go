package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"eproxy/internal/broker"
	"eproxy/internal/cliutil"
	"eproxy/internal/delivery"
	"eproxy/internal/endpoints"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/internal/upstream"
)

// answersLate are sources that are looked at just before they answer.
type answersLate struct {
	*endpoints.Watcher
	before func()
}

func (a *answersLate) Settle(ctx context.Context) {
	a.before()
	a.Watcher.Settle(ctx)
}

type noFrontend struct{ broker.Frontend }

func (noFrontend) Close() {}

// client is a connection on which acknowledgements are awaited.
type client struct {
	broker.Peer
	acknowledged chan byte // reason codes
}

func (c *client) Closed() bool            { return false }
func (c *client) Disconnect(byte, string) {}
func (c *client) Acknowledge(_ uint16, _, code byte, _ *pool.Batch) error {
	c.acknowledged <- code
	return nil
}

// TestReloadRoutesToPods: while the sources of a new function have not answered, nothing is routed to it, and who is
// denied may publish nothing any more; when they have, what is routed is delivered.
func TestReloadRoutesToPods(t *testing.T) {
	pod := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer pod.Close()
	dir := t.TempDir()
	file, list := filepath.Join(dir, "eproxy.yaml"), filepath.Join(dir, "pods.json")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const before = `listeners: [{address: "127.0.0.1:0"}]
functions:
  - {name: old, url: "http://localhost/", pods: ["127.0.0.1:1"]}
`
	write(list, fmt.Sprintf("[%q]", pod.Listener.Addr()))
	write(file, before+"routes:\n  - {topic: old, function: old}\n")
	log := slog.New(slog.DiscardHandler)
	cfg, err := cliutil.LoadConfig(file, log)
	if err != nil {
		t.Fatal(err)
	}
	pods := &answersLate{Watcher: endpoints.Watch(cfg, endpoints.Sources{}, log)}
	defer pods.Close()
	p := pool.New(cfg.Functions)
	defer p.Close()
	engine := delivery.New(cfg, p, delivery.Options{})
	defer engine.Close()
	b, err := broker.New(broker.Options{Config: cfg, Engine: engine, Frontend: func(*broker.Server) (broker.Frontend, error) { return noFrontend{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := &service{file: cfg, cfg: cfg, pods: pods, life: upstream.New(log, func(upstream.ID) uint64 { return 0 }), pool: p, engine: engine, broker: b, log: log}
	c := &client{acknowledged: make(chan byte, 1)}
	open := func(client string) *broker.Session {
		id := broker.Identity{ClientID: client, Remote: netip.MustParseAddrPort("192.0.2.1:1")}
		return b.Open(id, &broker.Connect{ClientID: client, Version: 5}, c, nil)
	}
	x, lost := open("c"), open("lost")
	publish := func() (ordinary bool) { return b.Publish(x, &request.Message{Topic: "new", QoS: 1, PacketID: 1}) }

	settled := false
	pods.before = func() {
		settled = true
		if !publish() {
			t.Error("a message is routed to a function whose pods are not known")
		}
		if b.Publish(lost, &request.Message{Topic: "other"}) {
			t.Error("who is denied may still publish")
		}
	}
	write(file, before+fmt.Sprintf("  - {name: new, url: \"http://localhost/\", discover: {file: %q}, retry: {attempts: 1}}\n", list)+
		"auth: {allow_anonymous: true, deny: {clients: [lost]}}\nroutes:\n  - {topic: new, function: new}\n")
	if err := s.reload(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if !settled {
		t.Error("the sources are not waited for")
	}
	if publish() {
		t.Fatal("the route is not in force")
	}
	if code := <-c.acknowledged; code != broker.CodeSuccess {
		t.Errorf("acknowledged with %#x", code)
	}
}
