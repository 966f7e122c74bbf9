package netns

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// TestEachMessageIsCountedOnce: each message is counted once, by the path that finished it; what
// the kernel path took and userspace finished is not forgotten.
func TestEachMessageIsCountedOnce(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		if body, _ := r.body(n); strings.HasPrefix(body, "bad") {
			w.WriteHeader(500)
			return
		}
		ok(n, w, q)
	}, nil)
	dead := "dead_letter: {file: " + filepath.Join(t.TempDir(), "dead.jsonl") + "}"
	s := start(t, l, "tc", strings.Replace(podConfig(failureConfig, false), "DEAD", dead, 1)+"metrics: {listen: \"127.0.0.1:9464\"}\n")
	c := rawConnect(t, l, "dev")
	for i := range 3 {
		c.publish("sensors/dev/temp", uint16(i+1), "good")
	}
	c.publish("sensors/dev/temp", 4, "bad")
	if n := s.counts()["tc_device_in/taken"]; n != 4 {
		t.Fatalf("the kernel took %d of 4 messages", n)
	}
	text := scrape(t, l)
	for _, want := range []string{
		`eproxy_messages_total{function="temp",outcome="delivered",path="kernel",qos="1",route="sensors/+/temp"} 3`,
		`eproxy_messages_total{function="temp",outcome="dead_letter",path="fallback",qos="1",route="sensors/+/temp"} 1`,
		`eproxy_dead_letters_total{function="temp"} 1`,
		`eproxy_message_duration_seconds_count{path="kernel",route="sensors/+/temp"} 3`,
		`eproxy_reasons_total{hook="control",reason="taken_over"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// scrape reads the node's metrics as Prometheus would.
func scrape(t *testing.T, l *lab.Lab) string {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return l.Dial(ctx, lab.Node, address)
	}}
	resp, err := (&http.Client{Transport: tr}).Get("http://127.0.0.1:9464/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return string(b)
}
