package netns

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestSpooledMessagesKeepTheirOrder: what a client publishes on an ordered route when its function serves again comes behind those of
// its messages that wait in the spool, by whatever way messages go.
func TestSpooledMessagesKeepTheirOrder(t *testing.T) {
	for _, mode := range []string{"tc", "xdp", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			const before, after = 10, 30
			l, r, o := newLab(t), newRecorder(), newInLine()
			var serves atomic.Bool
			r.serveGo(t, l, false, o.watch(r, func(n int64, w http.ResponseWriter, q *http.Request) {
				if !serves.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				ok(n, w, q)
			}), nil)
			config := strings.Replace(podConfig(spoolConfig, false), "    function: temp\n", "    function: temp\n    ordered: true\n", 1)
			start(t, l, mode, strings.ReplaceAll(config, "DIR", t.TempDir()))
			c := pahoConnect(t, l, "dev")
			publish := func(from, n int) {
				var tokens []mqtt.Token
				for _, p := range numbers(from, n) {
					tokens = append(tokens, c.Publish("sensors/dev/temp", 1, false, p))
				}
				published(t, tokens)
			}
			publish(0, before)
			serves.Store(true)
			publish(before, after)
			until(t, "all messages are answered", func() bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				n := 0
				for _, a := range o.answered {
					n += a
				}
				return n >= before+after
			})
			o.check(t)
		})
	}
}
