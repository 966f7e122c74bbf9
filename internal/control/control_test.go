package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/delivery"
	"eproxy/internal/instances"
	"eproxy/internal/trace"
)

type fake struct {
	kicked  []string
	changes []Change
	slow    <-chan time.Time // ends what is slow
	left    chan struct{}    // who looked at messages has gone
}

func (f *fake) Change(ctx context.Context, c Change) error {
	f.changes = append(f.changes, c)
	switch c.Function {
	case "no":
		return errors.New("function no is not in the configuration\nand more")
	case "half":
		return fmt.Errorf("%w: no space left", ErrChanged)
	case "slow":
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.slow:
		}
	}
	return nil
}

func (f *fake) Clients() []broker.Client {
	return []broker.Client{{ClientID: "a/b c?", Username: "u", Version: "5", Path: "kernel"}}
}
func (f *fake) Explain(client, topic string) broker.Explanation {
	return broker.Explanation{Route: &broker.RouteOfTopic{Filter: topic}, Refusals: []broker.Refusal{{Reason: "not_authorized", Text: client}}}
}

// Watch shows one message for each client that is asked for, and goes on until nobody looks; "busy" is refused.
func (f *fake) Watch(ctx context.Context, t trace.Filter, begun func() error, show func(trace.Event) error) error {
	if t.Client == "busy" {
		return trace.ErrBusy
	}
	if err := errors.Join(begun(), show(trace.Event{Client: t.Client, Topic: t.Topic, Status: t.Status})); err != nil {
		return err
	}
	<-ctx.Done()
	if f.slow != nil {
		<-f.slow
	}
	f.left <- struct{}{}
	return nil
}

func (f *fake) Instances() []instances.Status {
	return []instances.Status{{Function: "f", Address: netip.MustParseAddrPort("10.0.0.2:8080"), State: instances.Failed, Reason: "why"}}
}

func (f *fake) Functions() []instances.FunctionStatus {
	return []instances.FunctionStatus{{Function: "f", State: instances.Stopped, Max: 2, NextFrom: 1.5}}
}

func (f *fake) EachSpool(tell func(delivery.SpoolStat)) {
	s := delivery.SpoolStat{Function: "f", Usable: true}
	s.Messages, s.Ended = 7, map[string]uint64{"delivered": 3}
	tell(s)
}

func (f *fake) EachLetter(function string, each func(*delivery.Letter) bool) (int, error) {
	if function == "no" {
		return 0, errors.New("function no is not in the configuration\nand more")
	}
	n := 5
	if function == "large" {
		n = 1 << 20
	}
	for i := 0; i < n && each(&delivery.Letter{Topic: function, Attempts: i, Client: strings.Repeat("c", n/16), Payload: make([]byte, 7)}); i++ {
	}
	return 3, nil
}

func (f *fake) Replay(_ context.Context, function string) (delivery.Replayed, error) {
	if function == "no" {
		return delivery.Replayed{}, delivery.ErrInUse
	}
	return delivery.Replayed{Delivered: 1, Failed: 2, Left: 3}, nil
}
func (f *fake) Purge(function string) (int, error) { return len(function), nil }

func (f *fake) Kick(id string) bool {
	f.kicked = append(f.kicked, id)
	return id == "a/b c?&id=x"
}

// dial is a client of a socket anywhere.
func dial(path string) *Client {
	c := Dial("/sys/fs/bpf/x")
	c.path = path
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	return c
}

// TestControlSocket: only root may open it; any client identifier gets through;
// what is not there is said in one line; what a dead loader left is replaced.
func TestControlSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "x.sock")
	c := dial(path)
	if _, err := c.Clients(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a loader: %v", err)
	}
	for range 2 { // the second replaces the first one's socket
		f := &fake{}
		stop, err := Serve(path, Served{f, f, f, f, f, http.NotFoundHandler()})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v (%v)", info.Mode(), err)
		}
		if got, err := c.Clients(t.Context()); err != nil || len(got) != 1 || got[0].ClientID != "a/b c?" {
			t.Errorf("clients %+v, %v", got, err)
		}
		if got, err := c.Instances(t.Context()); err != nil || len(got) != 1 || got[0] != f.Instances()[0] {
			t.Errorf("instances %+v, %v", got, err)
		}
		if got, err := c.Functions(t.Context()); err != nil || len(got) != 1 || got[0] != f.Functions()[0] {
			t.Errorf("functions %+v, %v", got, err)
		}
		if got, err := c.Explain(t.Context(), "a&topic=b", "c/d e&f"); err != nil || got.Route.Filter != "c/d e&f" || got.Refusals[0].Text != "a&topic=b" {
			t.Errorf("explanation %+v, %v", got, err)
		}
		if err := c.Kick(t.Context(), "a/b c?&id=x"); err != nil {
			t.Error(err)
		}
		if err := c.Kick(t.Context(), "nobody"); !errors.Is(err, ErrNoClient) {
			t.Errorf("nobody: %v", err)
		}
		add := Change{Verb: PodsAdd, Function: "f", Pod: "10.0.0.1:80", Save: true}
		if err := c.Change(t.Context(), add); err != nil || len(f.changes) != 1 || f.changes[0] != add {
			t.Errorf("%+v became %+v, %v", add, f.changes, err)
		}
		err = c.Change(t.Context(), Change{Verb: PodsAdd, Function: "no"})
		if want := "refused, nothing has changed: function no is not in the configuration"; !errors.Is(err, ErrRefused) || err.Error() != want {
			t.Errorf("a change that is refused: %v, want %s", err, want)
		}
		err = c.Change(t.Context(), Change{Verb: PodsAdd, Function: "half"})
		if want := ErrChanged.Error() + ": no space left"; !errors.Is(err, ErrChanged) || errors.Is(err, ErrRefused) || err.Error() != want {
			t.Errorf("a change that could not be undone: %v, want %s", err, want)
		}
		if err := c.Change(t.Context(), Change{Topic: strings.Repeat("x", maxChange)}); !errors.Is(err, ErrRefused) || len(f.changes) != 3 {
			t.Errorf("a change that is too long: %v, %d changes", err, len(f.changes))
		}
		stop()
		if len(f.kicked) != 2 || f.kicked[0] != "a/b c?&id=x" {
			t.Errorf("kicked %q", f.kicked)
		}
	}
}

// TestSlowChange: a change may take longer than any other request; who waits for it no longer
// does not say that nothing has changed.
func TestSlowChange(t *testing.T) {
	const timeout = 50 * time.Millisecond
	path := filepath.Join(t.TempDir(), "x.sock")
	f := &fake{}
	stop, err := serve(path, Served{f, f, f, f, f, http.NotFoundHandler()}, timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := dial(path)
	f.slow = time.After(5 * timeout)
	if err := c.Change(t.Context(), Change{Function: "slow"}); err != nil {
		t.Errorf("a change that takes %v: %v", 5*timeout, err)
	}
	c.changes, f.slow = timeout, nil
	err = c.Change(t.Context(), Change{Function: "slow"})
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "nothing has changed") {
		t.Errorf("nobody has waited for the change: %v", err)
	}
}

// TestLettersThroughTheSocket: what the loader says of dead letters arrives, and so does why it refuses.
func TestLettersThroughTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sock")
	f := &fake{}
	stop, err := Serve(path, Served{f, f, f, f, f, http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, ctx := dial(path), t.Context()
	if l, err := c.Letters(ctx, "f & g", 3); err != nil || len(l.Letters) != 3 || l.Letters[2].Topic != "f & g" || l.Letters[2].Attempts != 2 ||
		l.Letters[2].Bytes != 7 || l.Letters[2].Payload != nil || l.Unreadable != 3 || l.More {
		t.Errorf("letters %+v: %v", l, err)
	}
	if l, err := c.Letters(ctx, "large", 10_000); err != nil || len(l.Letters) < 200 || len(l.Letters) > 300 || !l.More {
		t.Errorf("of large letters %d are shown, more %v: %v", len(l.Letters), l.More, err)
	}
	if _, err := c.Letters(ctx, "no", 3); !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), "function no is not in the configuration") {
		t.Errorf("%v", err)
	}
	if r, err := c.Replay(ctx, "f"); err != nil || r != (delivery.Replayed{Delivered: 1, Failed: 2, Left: 3}) {
		t.Errorf("%+v: %v", r, err)
	}
	if _, err := c.Replay(ctx, "no"); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	if n, err := c.Purge(ctx, "four"); err != nil || n != 4 {
		t.Errorf("%d: %v", n, err)
	}
}
