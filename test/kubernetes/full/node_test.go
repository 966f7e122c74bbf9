package full

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// pods is how many pods of the function are ready.
func (w *world) pods() int {
	n, _ := strconv.Atoi(strings.TrimSpace(w.kubectlTry("-n", namespace, "get", "deployment", "temp", "-o", "jsonpath={.status.readyReplicas}")))
	return n
}

// paths are how many messages each path has delivered.
func (w *world) paths() map[string]int {
	w.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return w.Dial(ctx, lab.Node, address) }}}
	r, err := c.Get("http://127.0.0.1:9464/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	out := make(map[string]int)
	for _, m := range regexp.MustCompile(`(?m)^eproxy_messages_total\{.*path="(\w+)".*\} (\d+)$`).FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.Atoi(m[2])
		out[m[1]] += n
	}
	return out
}

// TestNode: a Deployment is scaled from none to three pods and back to one, rolled out in
// another version and has its containers killed, under load from paho and mosquitto_pub, without
// a message of QoS 1 lost; eproxy is installed by its chart from its image. Then eproxy
// itself is rolled out, and its devices come back.
func TestNode(t *testing.T) {
	for _, cni := range []string{"bridge", "ptp"} {
		t.Run(cni, func(t *testing.T) {
			w := newWorld(t, cni)
			w.function()
			w.install()
			l := w.begin("paho", 3)
			l.wg.Go(func() { l.mosquitto("mosquitto") })
			w.kubectl("-n", namespace, "scale", "deployment/temp", "--replicas=3")
			l.more("after 0 -> 3", 500)
			w.until("three pods", func() bool { return w.pods() == 3 })
			l.more("with three pods", 500)
			w.kubectl("-n", namespace, "set", "env", "deployment/temp", "VERSION=2")
			w.kubectl("-n", namespace, "rollout", "status", "deployment/temp", "--timeout=120s")
			l.more("after the rollout", 500)
			for range 3 {
				n, err := w.node.Kill("function")
				if err != nil || n == 0 {
					t.Fatalf("%d containers killed: %v", n, err)
				}
				l.more("after containers were killed", 200)
				w.until("the pods to be ready again", func() bool { return w.pods() == 3 })
			}
			w.kubectl("-n", namespace, "scale", "deployment/temp", "--replicas=1")
			l.more("after 3 -> 1", 500)
			l.end()
			paths := w.paths()
			t.Logf("messages by path: %v", paths)
			if paths["kernel"] == 0 {
				t.Error("no message went through the kernel")
			}
			if out := w.kubectl("-n", "eproxy", "exec", "daemonset/eproxy", "--", "/bin/mapsctl", "pods", "--bpffs", w.BPFFS()); !strings.Contains(out, "10.99.0.") {
				t.Errorf("mapsctl in the pod shows no pods:\n%s", out)
			}
			w.upgrade()
			w.remove()
		})
	}
}

// upgrade rolls eproxy out while devices are connected, and measures how long they are not served.
func (w *world) upgrade() {
	w.t.Helper()
	l := w.begin("upgrade", 3)
	l.more("before eproxy's rollout", 300)
	ended := make(chan time.Duration, 1)
	stop := make(chan struct{})
	go func() { // the longest time without a message acknowledged
		last, at, longest := l.acknowledged(), time.Now(), time.Duration(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				ended <- longest
				return
			case now := <-tick.C:
				if n := l.acknowledged(); n != last {
					last, at = n, now
				}
				longest = max(longest, now.Sub(at))
			}
		}
	}()
	w.kubectl("-n", "eproxy", "rollout", "restart", "daemonset/eproxy")
	w.kubectl("-n", "eproxy", "rollout", "status", "daemonset/eproxy", "--timeout=120s")
	l.more("after eproxy's rollout", 300)
	close(stop)
	w.t.Logf("a rollout of eproxy: longest time without an acknowledgement %s", (<-ended).Round(time.Millisecond))
	l.end()
}

// remove removes eproxy and the function, as docs/KUBERNETES.md says; nothing may be left attached.
func (w *world) remove() {
	w.t.Helper()
	w.kubectl("delete", "namespace", "eproxy", namespace, "--timeout=120s")
	out, err := w.Run(w.t.Context(), lab.Node, "../../../bin/loader", "status", "--bpffs", w.BPFFS())
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(string(out), "attached") || !strings.Contains(string(out), "not running") {
		w.t.Errorf("eproxy is removed, and status says:\n%s", out)
	}
}
