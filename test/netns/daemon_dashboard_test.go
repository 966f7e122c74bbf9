//go:build prometheus

package netns

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

const prometheusAddress = "127.0.0.1:9090"

// prometheusConfig scrapes so often that a rate over dashboardSpan has enough to go by soon.
const prometheusConfig = `global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
  - job_name: eproxy
    static_configs: [{targets: ["127.0.0.1:9464"]}]
`

const dashboardSpan = "20s"

// prometheus is a real one, on the node.
type prometheus struct {
	t      *testing.T
	client *http.Client
}

func startPrometheus(t *testing.T, l *lab.Lab) *prometheus {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(prometheusConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+prometheusAddress)
	p, err := l.StartLogged(lab.Node, cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Prometheus says:\n%s", p.Log())
		}
		p.Kill()
	})
	return &prometheus{t, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return l.Dial(ctx, lab.Node, address)
	}}}}
}

// values are what an expression is now; none while Prometheus does not answer yet. An expression that it refuses
// ends the test.
func (p *prometheus) values(expr string) []string {
	p.t.Helper()
	resp, err := p.client.Get("http://" + prometheusAddress + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		return nil // it is starting
	}
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s", expr, answer.Error)
	}
	var all []string
	for _, r := range answer.Data.Result {
		all = append(all, fmt.Sprint(r.Value[1]))
	}
	return all
}

// dashboard is what is evaluated of one.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct {
			Name  string
			Query any
		}
	}
}

// expressions are those of all panels, as Grafana would ask them, with the panels' titles.
func (d *dashboard) expressions() (all [][2]string) {
	fill := strings.NewReplacer("$__rate_interval", dashboardSpan, "$function", ".*", "$job", "eproxy")
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			all = append(all, [2]string{p.Title, fill.Replace(t.Expr)})
		}
	}
	for _, v := range d.Templating.List {
		if q, ok := v.Query.(map[string]any); ok {
			args := strings.TrimSuffix(strings.TrimPrefix(q["query"].(string), "label_values("), ")")
			metric, label, _ := strings.Cut(args, ", ")
			all = append(all, [2]string{"variable " + v.Name, fmt.Sprintf(`count by (%s) (%s{%[1]s!=""})`, label, metric)})
		}
	}
	return all
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	b, err := os.ReadFile("../../deploy/grafana/eproxy.json")
	if err != nil {
		t.Fatal(err)
	}
	d := &dashboard{}
	if err := json.Unmarshal(b, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// dashboardConfig has a second function, whose pod does not answer, so that there are failures to show.
func dashboardConfig(t *testing.T) string {
	t.Helper()
	functions, routes, _ := strings.Cut(routeConfig, "routes:\n")
	functions += fmt.Sprintf("  - {name: down, url: \"http://down.local/\", pods: [\"%s:8081\"], retry: {attempts: 1}, dead_letter: {file: %q}}\n",
		lab.PodAddr(lab.Pod0, false), filepath.Join(t.TempDir(), "dead.jsonl"))
	return podConfig(functions+"routes:\n"+routes+"  - {topic: down/#, function: down}\n", false) +
		"auth:\n  allow_anonymous: false\n  users:\n" + fmt.Sprintf(devAccount, hashOf(t, "dev")) + monitoringConfig
}

// TestDashboard: a real Prometheus evaluates each expression of the Grafana dashboard against a real run, and each has
// data; promtool finds nothing wrong with the metrics.
func TestDashboard(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	start(t, l, "tc", dashboardConfig(t))
	measured, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = measured.Close() })
	p := startPrometheus(t, l)
	someTrouble(t, l)
	stop := keepSending(t, l)
	defer stop()
	for _, e := range readDashboard(t).expressions() {
		until(t, e[0]+" has data: "+e[1], func() bool {
			return slices.ContainsFunc(p.values(e[1]), func(v string) bool { return v != "NaN" })
		})
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(scrape(t, l))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// someTrouble is a client that is refused, a message that nobody takes, and what is no HTTP to a pod.
func someTrouble(t *testing.T, l *lab.Lab) {
	t.Helper()
	if _, code := logIn(t, l, account{version: 4, id: "x", user: "dev", password: "wrong"}); code == 0 {
		t.Error("a wrong password lets in")
	}
	c := mustLogIn(t, l, account{version: 4, id: "trouble", user: "dev"})
	if _, end := c.answer("down/a", 1, "x"); end {
		t.Error("a message whose function is down is not acknowledged as a dead letter")
	}
	pod, err := l.Dial(t.Context(), lab.Node, net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	if _, err := pod.Write([]byte("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	_, _ = pod.Read(make([]byte, 1)) // the pod has read it, so it was seen
}
