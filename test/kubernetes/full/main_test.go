// Package full tests eproxy on a whole node of Kubernetes, installed by its own chart from
// its own image. It needs root and what `make test-kubernetes-full` builds.
package full

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"eproxy/test/kubernetes/cluster"
	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

const (
	bin           = "../../../bin"
	kubernetesBin = bin + "/kubernetes"
	namespace     = "edge"
	waitTime      = 2 * time.Minute
)

func TestMain(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "test/kubernetes/full:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepare makes sure that everything is there: what is missing is a failure, never a skip.
func prepare() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: run make test-kubernetes-full as root")
	}
	for _, f := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "chart", "function.tar", "pause.tar", "../eproxy-image.tar"} {
		if _, err := os.Stat(filepath.Join(kubernetesBin, f)); err != nil {
			return fmt.Errorf("%w: make test-kubernetes-full builds it", err)
		}
	}
	for _, p := range []string{"etcd", "containerd", "runc", "ctr", "nft", "mosquitto_pub"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is missing: make test-kubernetes-full installs it: %w", p, err)
		}
	}
	return nil
}

// world is a node of Kubernetes, what its functions had, and the devices.
type world struct {
	*lab.Lab
	t      *testing.T
	bin    string
	plane  *cluster.Plane
	node   *cluster.Node
	client *kubernetes.Clientset
	config string // kubectl's

	mu  sync.Mutex
	had map[string]int // how often, by payload
	by  map[string]int // how many, by the name of the pod and its version
}

func newWorld(t *testing.T, cni string) *world {
	t.Helper()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	w := &world{Lab: l, t: t, had: make(map[string]int), by: make(map[string]int)}
	if w.bin, err = filepath.Abs(kubernetesBin); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if w.plane, err = cluster.Start(context.Background(), l, t.TempDir(), w.bin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.plane.Close)
	w.collect()
	if w.node, err = cluster.StartNode(context.Background(), w.plane, cni, filepath.Join(w.bin, "pause.tar"), filepath.Join(w.bin, "function.tar"), filepath.Join(w.bin, "../eproxy-image.tar")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.node.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the node:\n%s", w.node.Log())
		}
	})
	if w.client, err = w.plane.Client(); err != nil {
		t.Fatal(err)
	}
	if w.config, err = w.plane.Kubeconfig("kubectl", "admintoken", namespace); err != nil {
		t.Fatal(err)
	}
	w.until("the node to be ready", func() bool {
		n, err := w.client.CoreV1().Nodes().Get(t.Context(), cluster.NodeName, metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(n.Status.Conditions, func(c core.NodeCondition) bool { return c.Type == core.NodeReady && c.Status == core.ConditionTrue })
	})
	t.Logf("node ready after %s", time.Since(began).Round(time.Millisecond))
	return w
}

// collect serves what functions hand messages on to.
func (w *world) collect() {
	w.t.Helper()
	ln, err := w.Listen(lab.Node, net.JoinHostPort(lab.NodeV4.String(), "9999"))
	if err != nil {
		w.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.had[string(body)]++
		w.by[r.Header.Get("X-Pod")]++
	})}
	go func() { _ = s.Serve(ln) }()
	w.t.Cleanup(func() { _ = s.Close() })
}

// until waits for something.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	if !await.Within(waitTime, ok) {
		w.t.Fatalf("waited in vain for %s\n%s\n%s", what, w.kubectlTry("get", "pods,endpointslices", "-A", "-o", "wide"), w.kubectlTry("-n", "eproxy", "logs", "daemonset/eproxy"))
	}
}

// kubectl runs it and returns what it says.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.kubectlIn("", args...)
	if err != nil {
		w.t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w *world) kubectlTry(args ...string) string {
	out, _ := w.kubectlIn("", args...)
	return out
}

func (w *world) kubectlIn(in string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(w.bin, "kubectl"), append([]string{"--kubeconfig", w.config}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := w.Start(lab.Node, cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

func (w *world) apply(manifest string) {
	w.t.Helper()
	if out, err := w.kubectlIn(manifest, "apply", "-f", "-"); err != nil {
		w.t.Fatalf("kubectl apply: %v: %s", err, out)
	}
}

// install installs eproxy by its chart.
func (w *world) install() {
	w.t.Helper()
	values := filepath.Join(w.t.TempDir(), "values.yaml")
	text := fmt.Sprintf(`image: {pullPolicy: Never}
namespaces: [%s]
config: |
  interfaces: [eth0]
  bpffs: %s
  metrics: {listen: "127.0.0.1:9464"}
  functions:
    - {name: temp, url: "http://temp.edge.svc/", kubernetes: {service: temp, namespace: %s}, retry: {attempts: 100, backoff: 10ms, max_backoff: 200ms}}
  routes:
    - {topic: sensors/#, function: temp}
`, namespace, w.BPFFS(), namespace)
	if err := os.WriteFile(values, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	manifest, err := exec.Command(filepath.Join(w.bin, "chart"), "../../../deploy/chart", values).Output()
	if err != nil {
		w.t.Fatalf("render the chart: %v", err)
	}
	w.apply(string(manifest))
	w.kubectl("-n", "eproxy", "rollout", "status", "daemonset/eproxy", "--timeout=120s")
}

// function installs a function without pods.
func (w *world) function() {
	w.t.Helper()
	w.apply(strings.NewReplacer("NODE", lab.NodeV4.String()).Replace(`{apiVersion: v1, kind: Namespace, metadata: {name: edge}}
---
apiVersion: v1
kind: Service
metadata: {name: temp, namespace: edge}
spec: {selector: {app: temp}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: temp, namespace: edge}
spec:
  replicas: 0
  selector: {matchLabels: {app: temp}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: temp}}
    spec:
      dnsPolicy: Default
      automountServiceAccountToken: false
      enableServiceLinks: false
      containers:
        - name: function
          image: localhost/function:latest
          imagePullPolicy: Never
          env: [{name: COLLECTOR, value: "http://NODE:9999/"}, {name: VERSION, value: "1"}]
          readinessProbe: {httpGet: {port: 8080, path: /ready}, periodSeconds: 1}
`))
}

// load is messages that devices publish, one after the other, until it is stopped.
type load struct {
	w    *world
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	sent []string // acknowledged
}

// paho publishes with QoS 1 from a client that connects again when it is disconnected, and sends again what
// was not acknowledged.
func (l *load) paho(id string) {
	address := net.JoinHostPort(lab.NodeV4.String(), "1883")
	o := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetCleanSession(false).SetConnectRetry(true).
		SetConnectRetryInterval(100 * time.Millisecond).SetMaxReconnectInterval(200 * time.Millisecond).SetConnectTimeout(time.Second)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return l.w.Dial(ctx, lab.Dev, address)
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(waitTime) || tok.Error() != nil {
		l.w.t.Errorf("%s: connect: %v", id, tok.Error())
		return
	}
	defer c.Disconnect(250)
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		payload := fmt.Sprintf("%s-%d", id, n)
		if tok := c.Publish("sensors/"+id, 1, false, payload); !tok.WaitTimeout(waitTime) || tok.Error() != nil {
			l.w.t.Errorf("%s is not acknowledged: %v", payload, tok.Error())
			return
		}
		l.mu.Lock()
		l.sent = append(l.sent, payload)
		l.mu.Unlock()
	}
}

// mosquitto publishes with QoS 1 from mosquitto_pub, which sends a line at a time.
func (l *load) mosquitto(id string) {
	cmd := exec.Command("mosquitto_pub", "-h", lab.NodeV4.String(), "-i", id, "-t", "sensors/"+id, "-q", "1", "-l")
	in, err := cmd.StdinPipe()
	if err != nil {
		l.w.t.Error(err)
		return
	}
	if err := l.w.Start(lab.Dev, cmd); err != nil {
		l.w.t.Error(err)
		return
	}
	var lines []string
	tick := time.NewTicker(10 * time.Millisecond) // it reads all that it is given, and keeps it
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				l.w.t.Errorf("mosquitto_pub: %v", err)
			}
			l.mu.Lock()
			l.sent = append(l.sent, lines...)
			l.mu.Unlock()
			return
		case <-tick.C:
			lines = append(lines, fmt.Sprintf("%s-%d", id, n))
			if _, err := fmt.Fprintln(in, lines[n]); err != nil {
				l.w.t.Errorf("mosquitto_pub ended: %v", err)
				return
			}
		}
	}
}

// begin starts a load of so many paho clients; no other load has their names.
func (w *world) begin(name string, pahos int) *load {
	l := &load{w: w, stop: make(chan struct{})}
	for i := range pahos {
		l.wg.Go(func() { l.paho(fmt.Sprint(name, i)) })
	}
	return l
}

// acknowledged is how many messages were.
func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sent)
}

// more waits until so many more messages are acknowledged.
func (l *load) more(what string, n int) {
	l.w.t.Helper()
	want := l.acknowledged() + n
	l.w.until(fmt.Sprintf("%d more messages %s", n, what), func() bool { return l.acknowledged() >= want })
}

// end stops the load; no message that was acknowledged may be lost.
func (l *load) end() {
	l.w.t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	lost, twice := 0, 0
	for _, payload := range l.sent {
		switch n := l.w.had[payload]; {
		case n == 0:
			lost++
			l.w.t.Errorf("%s was acknowledged, and no function had it", payload)
		case n > 1:
			twice++
		}
	}
	l.w.t.Logf("%d messages acknowledged, %d lost, %d delivered more than once, pods and versions: %v", len(l.sent), lost, twice, l.w.by)
}
