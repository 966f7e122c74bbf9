package netns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"eproxy/test/lib/lab"
)

// asIs has gRPC carry bytes as they are (test/keda asks with KEDA's own code).
type asIs struct{}

func (asIs) Name() string { return "proto" }

func (asIs) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (asIs) Unmarshal(b mem.BufferSlice, v any) error {
	*v.(*[]byte) = b.Materialize()
	return nil
}

// scaledObject is a ScaledObjectRef of a function.
func scaledObject(function string) []byte {
	text := func(b []byte, number protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
	}
	return text(text(nil, 1, "temp"), 3, string(text(text(nil, 1, "function"), 2, function)))
}

const kedaConfig = `
functions:
  - {name: temp, url: "http://temp.local/", discover: {file: %q}}
routes:
  - {topic: "sensors/+/temp", function: temp}
scaler: {keda: {listen: "127.0.0.1:9091"}}
`

// TestKEDAFromZero: with a message for a function without pods, which waits, KEDA is told at once, and does what it would do then: it
// has a pod started. The message is delivered to that, once. Nothing is pushed before.
func TestKEDAFromZero(t *testing.T) {
	l := newLab(t)
	pods := filepath.Join(t.TempDir(), "pods.json")
	scale := func(text string) {
		if err := os.WriteFile(pods+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(pods+".new", pods); err != nil {
			t.Fatal(err)
		}
	}
	scale("[]")
	start(t, l, "tc", fmt.Sprintf(kedaConfig, pods))
	keda, err := grpc.NewClient("passthrough:127.0.0.1:9091", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(asIs{})),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return l.Dial(ctx, lab.Node, address) }))
	if err != nil {
		t.Fatal(err)
	}
	defer keda.Close()
	const service = "/externalscaler.ExternalScaler/"
	stream, err := keda.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, service+"StreamIsActive")
	if err == nil {
		err = stream.SendMsg(scaledObject("temp"))
	}
	if err != nil {
		t.Fatal(err)
	}
	pushed := make(chan time.Time, 100)
	go func() {
		for a := []byte(nil); stream.RecvMsg(&a) == nil; {
			if bytes.Equal(a, []byte{1 << 3, 1}) {
				pushed <- time.Now()
			}
		}
		close(pushed)
	}()
	active := func() bool {
		var a []byte
		if err := keda.Invoke(t.Context(), service+"IsActive", scaledObject("temp"), &a); err != nil {
			t.Fatal(err)
		}
		return len(a) > 0
	}
	if active() || len(pushed) > 0 {
		t.Error("the function is active before there is a message")
	}
	c := rawConnect(t, l, "d")
	began := time.Now()
	c.write(publishPacket("sensors/d/temp", 1, 7, "x"))
	select {
	case at, ok := <-pushed:
		t.Logf("pushed %s after the message: %v", at.Sub(began), ok)
		if !ok {
			t.Fatal("the stream has ended")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was pushed")
	}
	if !active() {
		t.Error("the function is not active while a message waits")
	}
	got := make(chan string, 10)
	address := net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080")
	serveOn(t, l, lab.Pod0, address, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Ce-Subject") }), nil)
	scale(fmt.Sprintf("[%q]", address))
	c.read([]byte{0x40, 2, 0, 7})
	if topic := <-got; topic != "sensors/d/temp" || len(got) > 0 {
		t.Errorf("%q was delivered, and %d more", topic, len(got))
	}
}
