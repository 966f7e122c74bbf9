package netns

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/encoding/protowire"

	"eproxy/test/lib/lab"
)

// stat is what Knative's autoscaler reads of a Stat: its numbers by their fields (test/knative reads with Knative's own code).
type stat [7]float64

const (
	statConcurrency = 2
	statProxied     = 3
	statRequests    = 4
	statProxiedReqs = 5
	statUptime      = 6
)

func parseStat(t *testing.T, b []byte) (s stat) {
	t.Helper()
	for len(b) > 0 {
		n, kind, k := protowire.ConsumeTag(b)
		if k < 0 || n > 6 {
			t.Fatalf("field %d", n)
		}
		b = b[k:]
		if kind == protowire.Fixed64Type {
			v, k := protowire.ConsumeFixed64(b)
			s[n], b = math.Float64frombits(v), b[k:]
			continue
		}
		b = b[protowire.ConsumeFieldValue(n, kind, b):]
	}
	return s
}

// pushedStat is the Stat in a WireStatMessages with one message, and whom it is about.
func pushedStat(t *testing.T, b []byte) (who string, s stat) {
	t.Helper()
	field := func(b []byte) (protowire.Number, []byte, []byte) {
		n, _, k := protowire.ConsumeTag(b)
		v, m := protowire.ConsumeBytes(b[max(k, 0):])
		if k < 0 || m < 0 {
			t.Fatalf("%x", b)
		}
		return n, v, b[k+m:]
	}
	_, inner, _ := field(b)
	for len(inner) > 0 {
		var n protowire.Number
		var v []byte
		n, v, inner = field(inner)
		if n == 3 {
			s = parseStat(t, v)
		} else {
			who += "/" + string(v)
		}
	}
	return who, s
}

// autoscaler takes what is pushed, on the node.
func autoscaler(t *testing.T, l *lab.Lab) <-chan []byte {
	pushed := make(chan []byte, 1000)
	serveOn(t, l, lab.Node, "127.0.0.1:9200", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u websocket.Upgrader
		c, err := u.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if kind == websocket.BinaryMessage {
				pushed <- b
			}
		}
	}), nil)
	return pushed
}

// scrapeStats asks a pod for its Stats and adds up what they say: concurrency times seconds, and requests. It ends with the second
// one that comes when over is closed: that is about a second that was not over then. whole: none was missed.
func scrapeStats(over <-chan struct{}, t *testing.T, c *http.Client, url string) (sum stat, whole bool) {
	whole = true
	var last float64
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for more := 2; more > 0; <-poll.C {
		q, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Error(err)
			return sum, false
		}
		q.Header.Set("Accept", "application/protobuf")
		resp, err := c.Do(q)
		if err != nil { // it does not listen yet
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.Header.Get("Content-Type") != "application/protobuf" {
			t.Errorf("%s: %s", resp.Status, resp.Header.Get("Content-Type"))
			return sum, false
		}
		s := parseStat(t, b)
		if passed := s[statUptime] - last; passed > 0 {
			whole = whole && passed < 1.9
			sum[statConcurrency] += s[statConcurrency] * passed
			sum[statProxied] += s[statProxied] * passed
			sum[statRequests] += s[statRequests]
			sum[statProxiedReqs] += s[statProxiedReqs]
			last = s[statUptime]
			select {
			case <-over:
				more--
			default:
			}
		}
	}
	return sum, whole
}

const knativeConfig = `
functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["%s", "%s"], autoscaling: {knative: {port: 9090, revision: edge/temp-00001}}}
routes:
  - {topic: "sensors/+/temp", function: temp}
scaler: {knative: "ws://127.0.0.1:9200"}
`

// spans are how long things took, all together.
type spans struct {
	mu  sync.Mutex
	sum map[string]time.Duration
}

func (s *spans) add(what string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum[what] += time.Since(since)
}

// TestKnativeIsTold: what Knative's autoscaler is told, as it scrapes pods and as it is pushed, is what servers, devices and
// clients themselves have counted: each request once, what eproxy and an activator tell of themselves as proxied, probes not at all;
// and the integral lies between what the servers and what the clients have measured.
func TestKnativeIsTold(t *testing.T) {
	l := newLab(t)
	took := &spans{sum: make(map[string]time.Duration)}
	who := func(h http.Header) string {
		switch {
		case strings.HasPrefix(h.Get("User-Agent"), "kube-probe/"):
			return "probe"
		case h.Get("K-Proxy-Request") == "activator":
			return "proxied"
		}
		return "other"
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		defer took.add("server "+who(r.Header), time.Now())
		time.Sleep(300 * time.Millisecond) // that is what the function does
	})
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		serveOn(t, l, pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"), h, nil)
	}
	pushed := autoscaler(t, l)
	start(t, l, "tc", podConfig(knativeConfig, false)+monitoringConfig)
	over := make(chan struct{})
	var scrapers sync.WaitGroup
	sums, whole := make([]stat, 2), make([]bool, 2)
	for i, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		scrapers.Go(func() {
			sums[i], whole[i] = scrapeStats(over, t, nodeClient(l), "http://"+net.JoinHostPort(lab.PodAddr(pod, false).String(), "9090")+"/metrics")
		})
	}
	const devices, each = 4, 6
	var all sync.WaitGroup
	for d := range devices {
		c := rawConnect(t, l, fmt.Sprint("dev", d))
		all.Go(func() {
			for i := range each {
				payload := "payload"
				if i == 0 {
					payload = strings.Repeat("too long for the kernel path", 100)
				}
				began := time.Now()
				c.publish("sensors/dev/temp", uint16(i+1), payload)
				took.add("client proxied", began)
			}
		})
	}
	for _, header := range [][2]string{{"User-Agent", "kube-probe/1.37"}, {"K-Proxy-Request", "activator"}, {"User-Agent", "curl/8"}} {
		all.Go(func() {
			for range each {
				q, _ := http.NewRequest(http.MethodGet, podURL(lab.Pod0, false, "/"), nil)
				q.Header.Set(header[0], header[1])
				began := time.Now()
				resp, err := nodeClient(l).Do(q)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				took.add("client "+who(q.Header), began)
			}
		})
	}
	all.Wait()
	count := 0.0
	for count < devices*each { // the last of it comes in a second
		select {
		case b := <-pushed:
			name, s := pushedStat(t, b)
			if name != "/edge/temp-00001" {
				t.Errorf("pushed as %q", name)
			}
			count += s[statRequests]
		case <-time.After(20 * time.Second):
			t.Fatalf("%v of %d requests pushed", count, devices*each)
		}
	}
	for quiet := false; !quiet; { // until a second in which nothing was
		select {
		case b := <-pushed:
			_, s := pushedStat(t, b)
			count += s[statRequests]
			quiet = s[statConcurrency] == 0
		case <-time.After(20 * time.Second):
			t.Fatal("no second without a request was pushed")
		}
	}
	if count != devices*each {
		t.Errorf("%v requests pushed, want %d", count, devices*each)
	}
	close(over)
	scrapers.Wait()
	if !whole[0] || !whole[1] {
		t.Log("the machine was too busy to read each second: the pods' sums are not whole")
		return
	}
	sum := sums[0]
	for i := range sum {
		sum[i] += sums[1][i]
	}
	if n := float64(devices*each + 2*each); sum[statRequests] != n || sum[statProxiedReqs] != n-each {
		t.Errorf("the pods' Stats have %v requests, %v proxied; want %v and %v", sum[statRequests], sum[statProxiedReqs], n, n-each)
	}
	between := func(what string, got float64, low, high time.Duration) {
		t.Logf("%s: %.3f s, the servers say %.3f, the clients %.3f", what, got, low.Seconds(), high.Seconds())
		if got < low.Seconds() || got > high.Seconds() {
			t.Errorf("%s: not between what the servers and what the clients say", what)
		}
	}
	between("proxied", sum[statProxied], took.sum["server proxied"], took.sum["client proxied"])
	between("all", sum[statConcurrency], took.sum["server proxied"]+took.sum["server other"], took.sum["client proxied"]+took.sum["client other"])
}
