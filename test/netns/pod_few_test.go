package netns

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// fewConfig has room for few pods, and one that gets several requests on a connection.
const fewConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%%[1]s"]
    concurrency: 2
    pipeline: 8
    retry: {attempts: 4, backoff: 10ms, max_backoff: 50ms}
routes:
  - topic: sensors/+/temp
    function: temp
limits: {pods: %d}
# %%[2]s
`

// TestFewPods: with room for one to three pods, too, what is sent again of messages that stood
// behind others on a connection is what was published.
func TestFewPods(t *testing.T) {
	for _, pods := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(pods), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			r := newRecorder()
			var mu sync.Mutex
			seen := make(map[string]bool)
			r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				body, _ := r.body(n)
				mu.Lock()
				again := seen[body]
				seen[body] = true
				mu.Unlock()
				if !again {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				ok(n, w, q)
			}, nil)
			s := start(t, l, "tc", podConfig(fmt.Sprintf(fewConfig, pods), false))
			c := rawConnect(t, l, "few")
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			const rounds, each = 20, 12
			want := make(map[string]bool)
			for round := range rounds {
				var b []byte
				for i := range each {
					p := fmt.Sprintf("message %d of round %d", i, round)
					want[p] = true
					b = append(b, publishPacket("sensors/few/temp", 1, uint16(round*each+i+1), p)...)
				}
				c.write(b)
				if _, err := io.ReadFull(c, make([]byte, 4*each)); err != nil {
					t.Fatalf("round %d: PUBACKs: %v", round, err)
				}
			}
			got, _ := r.all()
			for _, q := range got {
				if !want[q.body] {
					t.Fatalf("the function got %q, which nobody published", q.body)
				}
			}
			if len(seen) != len(want) {
				t.Errorf("the function got %d of %d messages", len(seen), len(want))
			}
			if n := s.counts()["control/taken_over"]; n == 0 {
				t.Error("no message was taken over: the test tests nothing")
			}
		})
	}
}
