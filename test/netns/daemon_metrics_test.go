package netns

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
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
	s := start(t, l, "tc", strings.Replace(podConfig(failureConfig, false), "DEAD", dead, 1)+metricsConfig)
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
		`eproxy_message_duration_seconds_count{path="fallback",route="sensors/+/temp"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// ways are what a function can do with a message, by the beginning of its
// payload, and how the message then ends, by QoS.
var ways = map[string]struct {
	answer  http.HandlerFunc
	code    string // of the response; 0: none
	outcome map[byte]string
}{
	"ok":         {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }, "200", delivered},
	"created":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, "201", delivered},
	"no content": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "204", delivered},
	"chunked": {func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, strings.Repeat("in pieces", 500))
	}, "200", delivered},
	"error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "500", map[byte]string{0: "dead_letter", 1: "dead_letter"}},
	"reset": {func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}, "0", map[byte]string{0: "lost", 1: "dead_letter"}},
}

var delivered = map[byte]string{0: "delivered", 1: "delivered"}

// TestBothPathsCountAlike: whichever path takes a message, it is counted once with
// the same outcome, and each of its requests once with the code that the function
// gave it: the sums are the functions' own.
func TestBothPathsCountAlike(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			var mu sync.Mutex
			own := map[string]int{} // the functions' own counts, by code
			r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				body, _ := r.body(n)
				way := ways[body]
				mu.Lock()
				own[way.code]++
				mu.Unlock()
				way.answer(w, q)
			}, nil)
			dead := "dead_letter: {file: " + filepath.Join(t.TempDir(), "dead.jsonl") + "}"
			start(t, l, mode, strings.Replace(podConfig(failureConfig, false), "DEAD", dead, 1)+metricsConfig)
			c := rawConnect(t, l, "dev")
			want, n := map[string]int{}, 0
			for way, w := range ways {
				for qos := range byte(2) {
					n++
					if want[fmt.Sprint(w.outcome[qos], " ", qos)]++; qos == 1 {
						c.publish("sensors/dev/temp", uint16(n), way)
						continue
					}
					c.write(publishPacket("sensors/dev/temp", 0, 0, way))
					waitSeries(t, l, func(s series) bool { return s.sum("eproxy_messages_total") == n })
				}
			}
			s := scrapeSeries(t, l)
			got := map[string]int{}
			for _, outcome := range []string{"delivered", "dead_letter", "failed", "lost"} {
				for qos := range 2 {
					if n := s.sum("eproxy_messages_total", `outcome="`+outcome+`"`, `qos="`+strconv.Itoa(qos)+`"`); n > 0 {
						got[fmt.Sprint(outcome, " ", qos)] = n
					}
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("messages %v, want %v", got, want)
			}
			if d := s.sum("eproxy_message_duration_seconds_count"); d != n {
				t.Errorf("%d durations of %d messages", d, n)
			}
			mu.Lock()
			defer mu.Unlock()
			codes, all := map[string]int{}, 0
			for code, n := range own {
				codes[code] = s.sum("eproxy_function_requests_total", `function="temp"`, `code="`+code+`"`)
				all += n
			}
			if n := s.sum("eproxy_function_requests_total"); !maps.Equal(codes, own) || n != all {
				t.Errorf("requests by code %v, %d in all; the functions say %v", codes, n, own)
			}
			kernel, fallback := s.bounds("kernel"), s.bounds("fallback")
			if len(fallback) != 22 || mode != "fallback" && !maps.Equal(kernel, fallback) {
				t.Errorf("buckets of the kernel path %v, of the fallback %v", kernel, fallback)
			}
			if n := s.sum("eproxy_messages_total", `path="kernel"`); (n > 0) != (mode != "fallback") {
				t.Errorf("%d messages by the kernel path", n)
			}
			if t.Failed() {
				t.Log(scrape(t, l))
			}
		})
	}
}

// bounds are the upper bounds of the buckets in which a path counts durations.
func (s series) bounds(path string) map[string]bool {
	out := map[string]bool{}
	for k := range s {
		if name, labels, _ := strings.Cut(k, "{"); name == "eproxy_message_duration_seconds_bucket" && strings.Contains(labels, `path="`+path+`"`) {
			_, le, _ := strings.Cut(labels, `le="`)
			le, _, _ = strings.Cut(le, `"`)
			out[le] = true
		}
	}
	return out
}
