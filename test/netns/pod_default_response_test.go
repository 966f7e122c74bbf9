package netns

import (
	"fmt"
	"net/http"
	"testing"

	"eproxy/test/lib/lab"
)

// upgrade answers as Apache does with TLS upgrade or HTTP/2 enabled.
func upgrade(n int64, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Upgrade", "h2,h2c")
	w.Header().Set("Connection", "Upgrade, Keep-Alive")
	ok(n, w, r)
}

// TestDefaultResponsesOfNodeAndApache: responses that frameworks send by default are digested in
// the kernel: Node's writeHead with end, which is chunked, and Apache's list of
// connection options.
func TestDefaultResponsesOfNodeAndApache(t *testing.T) {
	const port = 8500
	l := newLab(t)
	fs := functions{"node-head.local": newRecorder(), "go-upgrade.local": newRecorder()}
	serveCommand(t, l, fs.add, "node", "servers/node.js", fmt.Sprintf("%d=head", port))
	fs["go-upgrade.local"].serveGoAt(t, l, false, port+1, upgrade, nil)
	config := "functions:\n"
	for i, name := range []string{"node-head", "go-upgrade"} {
		config += fmt.Sprintf("  - {name: %s, url: \"http://%s.local/ingest\", pods: [\"%s:%d\"], concurrency: 8, pipeline: 8}\n", name, name, lab.PodAddr(lab.Pod0, false), port+i)
	}
	config += "routes:\n  - {topic: sensors/+/node-head, function: node-head}\n  - {topic: sensors/+/go-upgrade, function: go-upgrade}\n"
	s := start(t, l, "tc", config)
	for _, k := range []struct{ server, manner string }{{"node", "head"}, {"go", "upgrade"}} {
		for _, window := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s/%d", k.server, window), func(t *testing.T) {
				id := fmt.Sprintf("c%d", serial.Add(1))
				m := manner{name: k.manner, messages: 200, window: window, whole: true}
				oneManner(t, s, rawConnect(t, l, id), id, fs[k.server+"-"+k.manner+".local"], real{name: k.server}, m)
			})
		}
	}
}
