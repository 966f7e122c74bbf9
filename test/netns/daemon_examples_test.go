package netns

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

const examples = "../../examples/"

// TestExamplesAreValid: loader check has nothing to say against any of the
// example configurations, except that the one for the fallback alone is not for
// the loader.
func TestExamplesAreValid(t *testing.T) {
	l := newLab(t)
	files, err := filepath.Glob(examples + "*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range append(files, "../../docs/example.yaml") {
		code, out := loader(t, l, "check", "--config", f)
		if filepath.Base(f) == "fallback.yaml" {
			if code != 1 || !strings.HasPrefix(out, "loader: "+f+":") || !strings.Contains(out, ": no interfaces: ") || strings.Count(out, "\n") != 1 {
				t.Errorf("%s: exit code %d: %s", f, code, out)
			}
			continue
		}
		if code != 0 || !strings.Contains(out, f+": ok") {
			t.Errorf("%s: exit code %d: %s", f, code, out)
		}
	}
}

// serveExample runs userspace-fallback with an example as it stands, on the node.
func serveExample(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	p, err := l.StartServing(lab.Node, lab.Command(context.Background(), filepath.Join(bin, "userspace-fallback"), "--config", examples+name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("%v: %s", err, p.Log())
		}
	})
}

// TestExampleFallback: the fallback alone serves a function on its own host.
func TestExampleFallback(t *testing.T) {
	l := newLab(t)
	ln, err := l.Listen(lab.Node, "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	topics := make(chan string, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { topics <- q.Header.Get("ce-subject") })}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	serveExample(t, l, "fallback.yaml")
	if out, err := l.Run(t.Context(), lab.Node, "mosquitto_pub", "-h", "127.0.0.1", "-t", "sensors/7/temp", "-m", "21.5", "-q", "1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := <-topics; got != "sensors/7/temp" {
		t.Errorf("the function got a message of topic %q", got)
	}
}

// TestExampleUsers: who may log in, and publish and subscribe to what, in the
// example with users.
func TestExampleUsers(t *testing.T) {
	l := newLab(t)
	serveExample(t, l, "users.yaml")
	node := lab.NodeV4.String()
	for _, c := range []struct {
		user, password, id, topic string
		ok                        bool
	}{
		{"sensor", "secret", "s7", "sensors/s7/humidity", true},
		{"sensor", "secret", "s7", "sensors/s8/humidity", false},
		{"sensor", "wrong", "s7", "sensors/s7/humidity", false},
		{"dashboard", "secret", "d", "sensors/s7/humidity", false},
	} {
		args := []string{"-V", "5", "-h", node, "-u", c.user, "-P", c.password, "-i", c.id, "-t", c.topic, "-m", "x", "-q", "1"}
		out, err := l.Run(t.Context(), lab.Dev, "mosquitto_pub", args...)
		refused := err != nil || strings.Contains(strings.ToLower(string(out)), "not authorized")
		if refused == c.ok {
			t.Errorf("%+v: %v: %s", c, err, out)
		}
	}
	for filter, ok := range map[string]bool{"sensors/#": true, "commands/s7": false} {
		// -E: end when the subscription is answered
		out, err := l.Run(t.Context(), lab.Dev, "mosquitto_sub", "-V", "5", "-h", node, "-u", "dashboard", "-P", "secret", "-i", "d", "-t", filter, "-E")
		refused := err != nil || strings.Contains(strings.ToLower(string(out)), "denied")
		if refused == ok {
			t.Errorf("subscribe to %s: %v: %s", filter, err, out)
		}
	}
}
