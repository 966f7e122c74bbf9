package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// sample is a message with everything that its publisher can attach to it.
var sample = request.Message{ClientID: "c", Username: "u", Topic: "t", Payload: []byte("p\x00"), QoS: 1, Retain: true, Dup: true, Version: 5,
	ContentType: "text/plain", PayloadFormat: 1, UserProperties: []request.UserProperty{{Name: "k", Value: "1"}, {Name: "k", Value: "2"}},
	ResponseTopic: "r", CorrelationData: []byte{0, 1}}

// TestLetterIsTheMessage: a dead letter has everything of its message, and can be made one again.
func TestLetterIsTheMessage(t *testing.T) {
	b := newBench(t, 1, answers(503))
	m := sample
	m.MessageExpiry, m.Expires = 60, time.Now().Add(time.Minute)
	if o := b.e.Deliver(t.Context(), b.route, &m); !o.DeadLettered {
		t.Fatalf("%+v", o)
	}
	l := b.letters()[0]
	if got := l.Message(); !reflect.DeepEqual(got, &sample) {
		t.Errorf("%+v, want %+v", got, sample)
	}
	if l.MessageExpiry != 60 || l.Status != 503 || l.Function != "f" {
		t.Errorf("%+v", l)
	}
}

// TestLettersToURL: a letter has arrived when the URL has answered 2xx; otherwise the publisher keeps the message.
func TestLettersToURL(t *testing.T) {
	status := 204
	var got []Letter
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); r.URL.Path == "/letters" && r.Method == http.MethodPost && user+password == "me" && r.Header.Get("Content-Type") == "application/json" {
			b, _ := io.ReadAll(r.Body)
			var l Letter
			if err := json.Unmarshal(b, &l); err != nil {
				t.Error(err)
			}
			got = append(got, l)
		}
		w.Header().Set("Location", "/letters")
		w.WriteHeader(status)
	}))
	defer srv.Close()
	b := newBench(t, 1, answers(500))
	u, err := url.Parse(strings.Replace(srv.URL, "http://", "http://m:e@", 1) + "/letters")
	if err != nil {
		t.Fatal(err)
	}
	b.fn.DeadLetter = &config.DeadLetter{URL: u}
	for i, x := range []struct {
		status int
		acked  bool
	}{{204, true}, {500, false}, {307, false}, {200, true}} {
		status = x.status
		o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Topic: fmt.Sprint(i)})
		if o.Acked != x.acked || o.DeadLettered != x.acked {
			t.Errorf("%d: %+v", x.status, o)
		}
		if !x.acked && (!strings.Contains(o.Err.Error(), fmt.Sprintf("answered %d", x.status)) || strings.Contains(o.Err.Error(), ":e@")) {
			t.Errorf("%d: %v", x.status, o.Err)
		}
	}
	if len(got) != 4 || got[3].Topic != "3" || got[0].Status != 500 {
		t.Errorf("got %+v", got)
	}
	srv.Close()
	if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1}); o.Acked {
		t.Errorf("nobody there: %+v", o)
	}
}

// TestLettersToTopic: a letter goes to the subscribers of its topic, and nowhere while there is no server.
func TestLettersToTopic(t *testing.T) {
	b := newBench(t, 1, answers(500))
	b.fn.DeadLetter = &config.DeadLetter{Topic: "dead/f"}
	if o := b.e.Deliver(t.Context(), b.route, &sample); o.Acked {
		t.Errorf("without a server: %+v", o)
	}
	var got []*request.Message
	b.e.PublishWith(func(m *request.Message) error { got = append(got, m); return nil })
	if o := b.e.Deliver(t.Context(), b.route, &sample); !o.DeadLettered || !o.Acked || len(got) != 1 {
		t.Fatalf("%+v, published %d", o, len(got))
	}
	var l Letter
	if err := json.Unmarshal(got[0].Payload, &l); err != nil || got[0].Topic != "dead/f" || got[0].QoS != 1 || got[0].Retain || l.Topic != "t" || l.Status != 500 {
		t.Errorf("%+v: %v", got[0], err)
	}
}

// TestFilesAreRotated: beyond its size a new file is begun, as many as are to be kept are, and no letter is in two.
func TestFilesAreRotated(t *testing.T) {
	b := newBench(t, 1, answers(500))
	size := func(path string) int64 {
		st, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	deliver := func(i int) {
		t.Helper()
		if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Topic: fmt.Sprintf("%03d", i)}); !o.DeadLettered {
			t.Fatalf("%+v", o)
		}
	}
	deliver(0)
	d := b.fn.DeadLetter
	d.MaxSize, d.Keep = 3*size(d.File)+100, 2 // of letters of some bytes more or less
	const n = 20
	for i := 1; i < n; i++ {
		deliver(i)
		if s := size(d.File); s > d.MaxSize {
			t.Errorf("%d bytes in a file, at most %d may be", s, d.MaxSize)
		}
	}
	var topics []string
	for _, path := range []string{d.File + ".2", d.File + ".1", d.File} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var l Letter
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			topics = append(topics, l.Topic)
		}
	}
	if len(topics) < 7 || !slices.IsSorted(topics) || topics[len(topics)-1] != "019" || len(slices.Compact(slices.Clone(topics))) != len(topics) {
		t.Errorf("letters of %q", topics)
	}
	if all, _ := filepath.Glob(d.File + "*"); len(all) != 3 {
		t.Errorf("files: %q", all)
	}
}

// topicsOf are those of a function's letters, in their order.
func (b *bench) topicsOf() string {
	b.t.Helper()
	var out []string
	if n, err := b.e.EachLetter("f", func(l *Letter) bool { out = append(out, l.Topic); return true }); err != nil || n != 0 {
		b.t.Fatal(n, err)
	}
	return strings.Join(out, " ")
}

// TestReplay: letters are delivered to their function, those that fail are kept behind those that have come since, and none is
// lost or written twice; what a replay before has left is the first.
func TestReplay(t *testing.T) {
	b := newBench(t, 1, answers(500))
	dead := func(topics ...string) {
		t.Helper()
		for _, topic := range topics {
			if o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Topic: topic}); !o.DeadLettered {
				t.Fatalf("%+v", o)
			}
		}
	}
	replay := func(steps []exchange, want Replayed, left string) {
		t.Helper()
		b.pool.steps = steps
		b.pool.made.Store(0)
		got, err := b.e.Replay(t.Context(), "f")
		if err != nil || got != want {
			t.Errorf("replayed %+v (%v), want %+v", got, err, want)
		}
		if got := b.topicsOf(); got != left {
			t.Errorf("letters of %q are left, want %q", got, left)
		}
		b.pool.steps = []exchange{answers(500)}
	}
	replay(nil, Replayed{}, "")
	dead("a", "b", "c")
	replay([]exchange{answers(204), answers(500), answers(200)}, Replayed{Delivered: 2, Failed: 1}, "b")
	replay([]exchange{answers(500)}, Replayed{Failed: 1}, "b")
	replay([]exchange{answers(200)}, Replayed{Delivered: 1}, "")

	// Files of before are first, and each time one.
	dead("old")
	if err := os.Rename(b.fn.DeadLetter.File, b.fn.DeadLetter.File+".1"); err != nil {
		t.Fatal(err)
	}
	b.fn.DeadLetter.Keep = 1
	dead("new")
	replay([]exchange{answers(200)}, Replayed{Delivered: 1, Left: 1}, "new")

	// Whoever has no time leaves all.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := b.e.Replay(ctx, "f"); err != nil || got != (Replayed{Left: 1}) {
		t.Errorf("without time: %+v, %v", got, err)
	}
	dead("later")
	if got := b.topicsOf(); got != "new later" {
		t.Errorf("letters of %q", got)
	}
	replay([]exchange{answers(200)}, Replayed{Delivered: 1, Left: 1}, "later")
	if all, _ := filepath.Glob(b.fn.DeadLetter.File + "*"); len(all) != 1 {
		t.Errorf("files: %q", all)
	}
	if n, err := b.e.Purge("f"); n != 1 || err != nil || b.topicsOf() != "" {
		t.Errorf("purged %d, %v", n, err)
	}
}

// TestReplayStopsWhereAllFails: a function that is still down is not tried with every letter, nor are they all kept in memory.
func TestReplayStopsWhereAllFails(t *testing.T) {
	b := newBench(t, 1, answers(500))
	const n = failuresAtOnce + 20
	for range n {
		b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1})
	}
	b.pool.made.Store(0)
	b.pool.steps = slices.Repeat([]exchange{answers(500)}, n)
	if got, err := b.e.Replay(t.Context(), "f"); err != nil || got != (Replayed{Failed: failuresAtOnce, Left: 20}) {
		t.Errorf("%+v, %v", got, err)
	}
	count := 0
	if _, err := b.e.EachLetter("f", func(*Letter) bool { count++; return true }); err != nil || count != n {
		t.Errorf("%d letters, want %d: %v", count, n, err)
	}
}

// TestLettersThatAreNotKept: functions without a file are said to be so.
func TestLettersThatAreNotKept(t *testing.T) {
	b := newBench(t, 1)
	for function, d := range map[string]*config.DeadLetter{"none": nil, "f": {Topic: "t"}} {
		b.fn.DeadLetter = d
		if _, err := b.e.Purge(function); err == nil || !strings.Contains(err.Error(), "function "+function) {
			t.Errorf("%s: %v", function, err)
		}
	}
}
