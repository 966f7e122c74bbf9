package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// batching is an engine with a function that gets batches.
type batching struct {
	*Engine
	route *config.Route
	mu    sync.Mutex
	got   [][]string // payloads of each request
}

func newBatching(t *testing.T, b config.Batch, answer func(w http.ResponseWriter, payloads []string)) *batching {
	t.Helper()
	x := &batching{route: &config.Route{Filter: "t", Functions: []string{"f"}}}
	fn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var events []struct {
			Data string `json:"data"`
		}
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &events); err != nil || r.Header.Get("Content-Type") != "application/cloudevents-batch+json" {
			t.Errorf("%v: %s %s", err, r.Header.Get("Content-Type"), body)
		}
		var payloads []string
		for _, e := range events {
			payloads = append(payloads, e.Data)
		}
		x.mu.Lock()
		x.got = append(x.got, payloads)
		x.mu.Unlock()
		answer(w, payloads)
	}))
	t.Cleanup(fn.Close)
	u, _ := url.Parse("http://f.local/")
	cfg := &config.Config{Functions: []*config.Function{{Name: "f", URL: u, Pods: []netip.AddrPort{netip.MustParseAddrPort(fn.Listener.Addr().String())},
		Concurrency: 4, Timeout: time.Minute, Deadline: time.Hour, Batch: &b, Retry: config.Retry{Attempts: 2, Backoff: time.Millisecond, MaxBackoff: time.Millisecond, Final: []int{400}}}}}
	p := pool.New(cfg.Functions)
	t.Cleanup(func() { _ = p.Close() })
	x.Engine = New(cfg, p, Options{})
	t.Cleanup(x.Close)
	return x
}

// deliver sends messages with these payloads at the same time and returns the outcomes.
func (x *batching) deliver(payloads ...string) []Outcome {
	out := make([]Outcome, len(payloads))
	var wg sync.WaitGroup
	for i, p := range payloads {
		wg.Go(func() {
			out[i] = x.Deliver(context.Background(), x.route, &request.Message{ClientID: "c", Topic: "t", QoS: 1, Version: 5, ContentType: "text/plain", Payload: []byte(p)})
		})
	}
	wg.Wait()
	return out
}

func numbers(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

// A batch goes when it is full, without waiting for its time; what is left goes when that is over.
func TestBatchFillsUp(t *testing.T) {
	x := newBatching(t, config.Batch{MaxMessages: 10, MaxBytes: 1 << 20, Linger: time.Hour}, func(http.ResponseWriter, []string) {})
	for _, o := range x.deliver(numbers(30)...) {
		if !o.Acked || o.Response != nil {
			t.Errorf("outcome %+v", o)
		}
	}
	if len(x.got) != 3 {
		t.Errorf("%d requests: %v", len(x.got), x.got)
	}
	x = newBatching(t, config.Batch{MaxMessages: 10, MaxBytes: 1 << 20, Linger: time.Millisecond}, func(http.ResponseWriter, []string) {})
	if o := x.deliver("a")[0]; !o.Acked {
		t.Errorf("outcome %+v", o)
	}
	x = newBatching(t, config.Batch{MaxMessages: 10, MaxBytes: 100, Linger: time.Millisecond}, func(http.ResponseWriter, []string) {})
	x.deliver("a", "b")
	if len(x.got) != 2 {
		t.Errorf("%d requests for two events of more than max_bytes together", len(x.got))
	}
}

// 207 says of each message what became of it; one that failed is sent again without the others.
func TestBatchPartly(t *testing.T) {
	x := newBatching(t, config.Batch{MaxMessages: 3, MaxBytes: 1 << 20, Linger: 20 * time.Millisecond}, func(w http.ResponseWriter, payloads []string) {
		if len(payloads) < 3 {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusMultiStatus)
		var parts []any
		for _, p := range payloads {
			switch p {
			case "bad":
				parts = append(parts, 400)
			case "late":
				parts = append(parts, map[string]int{"status": 503})
			default:
				parts = append(parts, 204)
			}
		}
		_ = json.NewEncoder(w).Encode(parts)
	})
	o := x.deliver("good", "bad", "late")
	if !o[0].Acked || o[1].Acked || !o[1].Rejected || o[1].Status != 400 || !o[2].Acked {
		t.Errorf("outcomes %+v", o)
	}
	if len(x.got) != 2 || len(x.got[1]) != 1 || x.got[1][0] != "late" {
		t.Errorf("requests %q", x.got)
	}
}

// A message that the function will never have does not keep the others of its batch from it.
func TestBatchPoison(t *testing.T) {
	x := newBatching(t, config.Batch{MaxMessages: 3, MaxBytes: 1 << 20, Linger: time.Hour}, func(w http.ResponseWriter, payloads []string) {
		for _, p := range payloads {
			if p == "poison" {
				w.WriteHeader(http.StatusBadRequest)
			}
		}
	})
	o := x.deliver("a", "poison", "b")
	if !o[0].Acked || o[1].Acked || !o[1].Rejected || !o[2].Acked {
		t.Errorf("outcomes %+v", o)
	}
}

// What is no answer for each message is a failure of all.
func TestBatchStatuses(t *testing.T) {
	for body, want := range map[string]string{
		`[200,503]`: "[200 503]", `[{"status":200,"id":"x"},404]`: "[200 404]", `[200]`: "", `{}`: "", `[200,"x"]`: "", `[200,0]`: "", `[200,{}]`: "", ``: "",
	} {
		got, err := readStatuses([]byte(body), 2)
		if s := fmt.Sprint(got); err == nil && s != want || err != nil && want != "" {
			t.Errorf("%s: %s, %v", body, s, err)
		}
	}
}

// A message whose waiting ends leaves the batch, which goes without it.
func TestBatchWithdrawn(t *testing.T) {
	x := newBatching(t, config.Batch{MaxMessages: 2, MaxBytes: 1 << 20, Linger: time.Hour}, func(http.ResponseWriter, []string) {})
	gone := x.Deliver(context.Background(), x.route, &request.Message{ClientID: "c", Topic: "t", QoS: 1, ContentType: "text/plain", Payload: []byte("gone"), Expires: time.Now().Add(10 * time.Millisecond)})
	if !gone.Expired {
		t.Errorf("outcome %+v", gone)
	}
	for _, o := range x.deliver("a", "b") {
		if !o.Acked {
			t.Errorf("outcome %+v", o)
		}
	}
	if len(x.got) != 1 || len(x.got[0]) != 2 {
		t.Errorf("requests %q", x.got)
	}
}
