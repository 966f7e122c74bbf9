package keda

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"eproxy/internal/config"
	"eproxy/internal/traffic"
)

// raw is a message as it is on the wire.
type raw []byte

func (r raw) append(b []byte) []byte { return append(b, r...) }

func (r *raw) parse(b []byte) error {
	*r = bytes.Clone(b)
	return nil
}

// idle is a node whose functions have nothing to do, unless it is told so. It knows which were ever asked for.
type idle struct {
	mu    sync.Mutex
	asked map[string]bool
	busy  int
}

func (*idle) Loads(func(string) bool, time.Duration) (traffic.Loads, error) {
	return traffic.Loads{}, nil
}

func (i *idle) Userspace(function string, _ time.Duration) traffic.Sum {
	i.Busy(function)
	return traffic.Sum{}
}

func (i *idle) Busy(function string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[function] = true
	return i.busy
}

// world is a server and a client of it.
type world struct {
	*Server
	node   *idle
	client *grpc.ClientConn
}

// serve begins both. run serves, until its context ends.
func serve(t *testing.T, run func(*Server, context.Context, net.Listener)) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node := &idle{asked: make(map[string]bool)}
	w := &world{node: node, Server: New(&config.Config{Functions: []*config.Function{{Name: "temp", Concurrency: 1}}},
		Options{Source: node, Now: func() time.Duration { return time.Hour }, Logger: slog.New(slog.DiscardHandler)})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(w.Server, ctx, l) })
	t.Cleanup(func() { cancel(); running.Wait() })
	w.client, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	return w
}

const service = "/externalscaler.ExternalScaler/"

// ask calls a method.
func (w *world) ask(method string, q raw) (raw, codes.Code) {
	var a raw
	err := w.client.Invoke(context.Background(), service+method, q, &a)
	return a, status.Code(err)
}

// stream opens one; its first answer is not awaited.
func (w *world) stream(t *testing.T, ctx context.Context, q raw) grpc.ClientStream {
	t.Helper()
	s, err := w.client.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, service+"StreamIsActive")
	if err == nil {
		err = s.SendMsg(q)
	}
	if err == nil {
		err = s.CloseSend()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func text(number protowire.Number, s string) raw {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s)
}

// ref is a ScaledObjectRef with metadata: keys and values.
func ref(metadata ...string) (out raw) {
	out = append(text(1, "temp"), text(2, "edge")...)
	for i := 0; i < len(metadata); i += 2 {
		entry := append(text(1, metadata[i]), text(2, metadata[i+1])...)
		out = append(out, text(3, string(entry))...)
	}
	return out
}

// TestRefused: what cannot be answered has one clear error, whatever method asks.
func TestRefused(t *testing.T) {
	w := serve(t, (*Server).Run)
	many := make([]string, 0, 4*maxMetadata)
	for i := range maxMetadata + 1 {
		many = append(many, strings.Repeat("k", i+1), "v")
	}
	for what, c := range map[string]struct {
		q    raw
		want codes.Code
	}{
		"a function": {ref("function", "temp"), codes.OK}, "another one": {ref("function", "x"), codes.NotFound}, "none": {ref(), codes.InvalidArgument},
		"not as the proto has it": {raw{0x0a, 0xff}, codes.Internal}, "too long": {ref("function", strings.Repeat("x", maxRequest)), codes.ResourceExhausted},
		"too many keys": {ref(many...), codes.Internal},
	} {
		for _, method := range []string{"IsActive", "GetMetricSpec"} {
			if _, got := w.ask(method, c.q); got != c.want {
				t.Errorf("%s: %s: %s, want %s", method, what, got, c.want)
			}
		}
		if _, got := w.ask("GetMetrics", text(1, string(c.q))); got != c.want {
			t.Errorf("GetMetrics: %s: %s, want %s", what, got, c.want)
		}
	}
	for _, target := range []string{"0", "-1", "NaN", "Inf", "1e9", "many"} {
		if _, got := w.ask("GetMetricSpec", ref("function", "temp", "target", target)); got != codes.InvalidArgument {
			t.Errorf("target %s: %s", target, got)
		}
	}
	if _, got := w.ask("Delete", nil); got != codes.Unimplemented {
		t.Errorf("an unknown method: %s", got)
	}
}

// TestAtOnce: it is the message that has KEDA told, not a look at the function each second, of which there is none here.
func TestAtOnce(t *testing.T) {
	w := serve(t, func(s *Server, ctx context.Context, l net.Listener) {
		go func() { _ = s.server.Serve(l) }()
		<-ctx.Done()
		close(s.ending)
		s.server.Stop()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s := w.stream(t, ctx, ref("function", "temp"))
	until(t, "the stream does not look at the function", func() bool { // so that what it sees later it was told of
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		return w.node.asked["temp"]
	})
	w.node.mu.Lock()
	w.node.busy = 1
	w.node.mu.Unlock()
	w.Activate("temp")
	var a raw
	if err := s.RecvMsg(&a); err != nil || !bytes.Equal(a, activity(true).append(nil)) {
		t.Errorf("%x: %v", a, err)
	}
}

// until waits until something is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.After(30 * time.Second); !is(); {
		select {
		case <-limit:
			t.Fatal(what)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestBounded: there are so many streams and no more, and nothing is left of them, nor of names that somebody makes up.
func TestBounded(t *testing.T) {
	w := serve(t, (*Server).Run)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := func() (open, functions int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.open, len(w.functions)
	}
	for i := range streams {
		name := strings.Repeat("x", i%100+1)
		w.stream(t, ctx, ref("function", name))
	}
	until(t, "the streams are not open", func() bool { open, _ := count(); return open == streams })
	// A connection of its own: the first one has as many streams as it may.
	other, err := grpc.NewClient(w.client.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := (&world{client: other}).stream(t, t.Context(), ref("function", "temp"))
	if err := s.RecvMsg(new(raw)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a stream too many: %v", err)
	}
	w.Tick()
	cancel()
	until(t, "something is left of streams that have ended", func() bool { open, functions := count(); return open == 0 && functions == 0 })
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	for name := range w.node.asked {
		if name != "temp" {
			t.Fatalf("the node was asked for %q, which is no function", name)
		}
	}
}

// FuzzReference: whatever is sent, it is read within its bounds or refused.
func FuzzReference(f *testing.F) {
	f.Add([]byte(ref("function", "temp", "target", "3")))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r reference
		if err := r.parse(b); err == nil && (len(r.metadata) > maxMetadata || len(r.name) > len(b)) {
			t.Errorf("%+v", r)
		}
	})
}
