package netns

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

const placesConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s", "%s"]
    concurrency: PLACES
    timeout: 60s
routes:
  - {topic: sensors/+/temp, function: temp}
`

// TestConcurrencyIsOneLimit: messages of both paths, many at a time, are together never
// more at a pod than its concurrency, and those of each path get there all the same.
func TestConcurrencyIsOneLimit(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for _, places := range []int64{1, 5} {
			t.Run(fmt.Sprintf("%s/%d", mode, places), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				var busy, most [2]atomic.Int64 // by pod
				second := lab.PodAddr(lab.Pod1, false).String()
				r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
					pod := 0
					if strings.HasPrefix(q.Context().Value(http.LocalAddrContextKey).(net.Addr).String(), second+":") {
						pod = 1
					}
					now := busy[pod].Add(1)
					defer busy[pod].Add(-1)
					for {
						m := most[pod].Load()
						if now <= m || most[pod].CompareAndSwap(m, now) {
							break
						}
					}
					select { // so that requests meet
					case <-time.After(2 * time.Millisecond):
					case <-q.Context().Done():
					}
					ok(n, w, q)
				}, nil)
				s := start(t, l, mode, strings.Replace(podConfig(placesConfig, false), "PLACES", fmt.Sprint(places), 1))
				const clients, each, window = 6, 120, 8
				var want []string
				done := make(chan struct{}, clients)
				for i := range clients {
					c := rawConnect(t, l, fmt.Sprintf("places-%d", i))
					_ = c.SetDeadline(time.Now().Add(2 * stallLimit))
					var ms []message
					for n := range each {
						m := message{topic: fmt.Sprintf("sensors/places-%d/temp", i), qos: 1, payload: sealed("places", fmt.Sprint(i), n, 20)}
						if i%2 == 1 { // too long for the kernel path
							m.payload = sealed("places", fmt.Sprint(i), n, 3000)
						}
						ms, want = append(ms, m), append(want, m.payload)
					}
					go func() {
						defer func() { done <- struct{}{} }()
						c.publishAll(ms, window)
					}()
				}
				for range clients {
					<-done
				}
				r.once(t, want)
				for pod := range most {
					if n := most[pod].Load(); n > places || n == 0 {
						t.Errorf("up to %d requests at a time at pod %d, may be %d", n, pod, places)
					}
				}
				if taken, _ := share(nil, s.counts()); mode != "fallback" && taken == 0 {
					t.Error("the kernel took nothing: the test tests nothing")
				}
			})
		}
	}
}

// TestConcurrencyIsLowered: a reload that lowers a function's concurrency under load holds
// for its pods but for what was in flight, also where the fallback has nothing to do.
func TestConcurrencyIsLowered(t *testing.T) {
	const before, after, clients = 8, 2, 12
	l := newLab(t)
	r := newRecorder()
	var mu sync.Mutex
	var busy, begun, over int
	var lowered bool
	full := make(chan struct{})   // as many at a time as there may be, before
	loaded := make(chan struct{}) // enough afterwards
	var once, enough sync.Once
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		busy++
		if lowered {
			begun++
			if busy > after {
				over++
			}
			if begun == 1000 {
				enough.Do(func() { close(loaded) })
			}
		}
		if busy == before {
			once.Do(func() { close(full) })
		}
		mu.Unlock()
		select { // so that requests meet
		case <-time.After(2 * time.Millisecond):
		case <-q.Context().Done():
		}
		ok(n, w, q)
		mu.Lock()
		busy--
		mu.Unlock()
	}, nil)
	text := strings.Replace(podConfig(placesConfig, false), "PLACES", fmt.Sprint(before), 1)
	pods := regexp.MustCompile(`pods: \[("[^"]+"), "[^"]+"\]`)
	s := start(t, l, "tc", pods.ReplaceAllString(text, "pods: [$1]"))
	stop, done := make(chan struct{}), make(chan struct{}, clients)
	for i := range clients {
		c := rawConnect(t, l, fmt.Sprintf("lowered-%d", i))
		_ = c.SetDeadline(time.Now().Add(2 * stallLimit))
		go func() {
			defer func() { done <- struct{}{} }()
			for n := uint16(1); ; n++ {
				select {
				case <-stop:
					return
				default:
					c.publish(fmt.Sprintf("sensors/lowered-%d/temp", i), n, fmt.Sprint(n))
				}
			}
		}()
	}
	select {
	case <-full:
	case <-time.After(stallLimit):
		t.Error("there is no load")
	}
	s.reload(fmt.Sprintf("concurrency: %d", before), fmt.Sprintf("concurrency: %d", after), "msg=reloaded")
	mu.Lock()
	lowered = true
	mu.Unlock()
	select {
	case <-loaded:
	case <-time.After(stallLimit):
		t.Errorf("only %d requests after the reload", begun)
	}
	close(stop)
	for range clients {
		<-done
	}
	if begun == 0 || over > before { // those that were under way to the pod
		t.Errorf("%d of %d requests made more than %d at a time", over, begun, after)
	}
}

// TestFunctionDown: the messages to a function no pod of which takes connections have
// their attempts and become dead letters, whatever the path, and another function's
// are not held up.
func TestFunctionDown(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			file := filepath.Join(t.TempDir(), "dead.jsonl")
			config := strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1)
			down := strings.Replace(strings.ReplaceAll(podConfig(failureConfig, false), ":8080", ":9"), "DEAD", "dead_letter: {file: "+file+"}", 1)
			down, _, _ = strings.Cut(strings.ReplaceAll(down, "name: temp", "name: down"), "routes:")
			down = strings.TrimPrefix(down, "functions:\n")
			start(t, l, mode, strings.Replace(config, "routes:\n", down+"routes:\n  - {topic: down/+, function: down}\n", 1))
			const n = 40
			dead, alive := rawConnect(t, l, "dead"), rawConnect(t, l, "alive")
			var ms, others []message
			for i := range n {
				ms = append(ms, message{topic: "down/x", qos: 1, payload: fmt.Sprint(i)})
				others = append(others, message{topic: "sensors/alive/temp", qos: 1, payload: fmt.Sprint(i)})
			}
			dead.publishAll(ms, n)
			alive.publishAll(others, 1)
			b, err := os.ReadFile(file)
			if err != nil || strings.Count(string(b), "\n") != n {
				t.Errorf("%d dead letters, want %d: %v", strings.Count(string(b), "\n"), n, err)
			}
			if got, _ := r.all(); len(got) != n {
				t.Errorf("the other function got %d messages of %d", len(got), n)
			}
		})
	}
}
