// Package kubernetes tests eproxy with a real API server of Kubernetes. It needs root and
// what `make test-kubernetes` builds.
package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"eproxy/test/kubernetes/cluster"
	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

const (
	bin           = "../../bin"
	kubernetesBin = bin + "/kubernetes"
	namespace     = "edge"
)

func TestMain(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "test/kubernetes:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepare makes sure that everything is there: what is missing is a failure, never a skip.
func prepare() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: run make test-kubernetes as root")
	}
	for _, f := range []string{bin + "/loader", bin + "/mapsctl", kubernetesBin + "/kube-apiserver"} {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("%w: make test-kubernetes builds it", err)
		}
	}
	if _, err := exec.LookPath("etcd"); err != nil {
		return fmt.Errorf("etcd is missing: make test-kubernetes installs it: %w", err)
	}
	return nil
}

// world is a lab with a cluster on its node, and functions on its pods.
type world struct {
	*lab.Lab
	t      *testing.T
	plane  *cluster.Plane
	client *kubernetes.Clientset

	mu  sync.Mutex
	got map[string]lab.Role // by payload: the pod that had it first
	log []arrival
}

// arrival is a request.
type arrival struct {
	pod     lab.Role
	payload string
	at      time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	abs, err := filepath.Abs(kubernetesBin)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	plane, err := cluster.Start(context.Background(), l, t.TempDir(), abs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Close)
	t.Logf("API server ready after %s", time.Since(began).Round(time.Millisecond))
	client, err := plane.Client()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Lab: l, t: t, plane: plane, client: client, got: make(map[string]lab.Role)}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		w.serve(pod)
	}
	return w
}

// serve runs a function on a pod.
func (w *world) serve(pod lab.Role) {
	w.t.Helper()
	ln, err := w.Listen(pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"))
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
		w.log = append(w.log, arrival{pod, string(body), time.Now()})
		if _, again := w.got[string(body)]; !again {
			w.got[string(body)] = pod
		}
	})}
	go func() { _ = s.Serve(ln) }()
	w.t.Cleanup(func() { _ = s.Close() })
}

// had says which pod had a message.
func (w *world) had(payload string) lab.Role {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got[payload]
}

// token is that of a service account, which may do what the rules say.
func (w *world) token(name string, rules ...rbac.PolicyRule) string {
	w.t.Helper()
	ctx := w.t.Context()
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
	if _, err := w.client.CoreV1().ServiceAccounts(namespace).Create(ctx, &core.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.allow(name, name, rules...)
	t, err := w.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authentication.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return t.Status.Token
}

// allow gives a service account rights in the namespace, by a role of some name.
func (w *world) allow(account, name string, rules ...rbac.PolicyRule) {
	w.t.Helper()
	if len(rules) == 0 {
		return
	}
	ctx := w.t.Context()
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
	if _, err := w.client.RbacV1().Roles(namespace).Create(ctx, &rbac.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	binding := &rbac.RoleBinding{ObjectMeta: meta, RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: name},
		Subjects: []rbac.Subject{{Kind: rbac.ServiceAccountKind, Name: account, Namespace: namespace}}}
	if _, err := w.client.RbacV1().RoleBindings(namespace).Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// readSlices is the right that eproxy needs.
var readSlices = rbac.PolicyRule{APIGroups: []string{discovery.GroupName}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}}

// service writes an EndpointSlice of a Service as its controller would: the port, and
// pods with whether they are ready.
func (w *world) service(name, port string, pods map[lab.Role]bool) {
	w.t.Helper()
	w.slice(name, port, nil, pods)
}

// slice is service, with more labels, and changes to its endpoints.
func (w *world) slice(name, port string, more map[string]string, pods map[lab.Role]bool, change ...func(lab.Role, *discovery.Endpoint)) {
	w.t.Helper()
	number, labels := int32(8080), map[string]string{discovery.LabelServiceName: name}
	maps.Copy(labels, more)
	s := &discovery.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name + "-1", Namespace: namespace, Labels: labels},
		AddressType: discovery.AddressTypeIPv4, Ports: []discovery.EndpointPort{{Name: &port, Port: &number}}}
	for pod, ready := range pods {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{Addresses: []string{lab.PodAddr(pod, false).String()},
			Conditions: discovery.EndpointConditions{Ready: &ready}})
		for _, c := range change {
			c(pod, &s.Endpoints[len(s.Endpoints)-1])
		}
	}
	slices := w.client.DiscoveryV1().EndpointSlices(namespace)
	_, err := slices.Update(w.t.Context(), s, metav1.UpdateOptions{})
	if err != nil {
		_, err = slices.Create(w.t.Context(), s, metav1.CreateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// eproxy runs the loader until the test ends, with one route and a function whose pods are a
// Service's, asked for by a service account.
func (w *world) eproxy(kubernetes, token string) *lab.Process {
	w.t.Helper()
	return w.run(token, "", `functions:
  - {name: temp, url: "http://temp.local/ingest", kubernetes: `+kubernetes+`, retry: {attempts: 50, backoff: 10ms, max_backoff: 50ms}}
routes:
  - {topic: sensors/+/temp, function: temp}
`)
}

// run runs the loader until the test ends with a configuration, and more of its key kubernetes than
// how the API server is reached.
func (w *world) run(token, more, config string) *lab.Process {
	w.t.Helper()
	return w.runAs("tc", token, more, config)
}

// runAs is run in one of the lab's modes.
func (w *world) runAs(mode, token, more, config string) *lab.Process {
	w.t.Helper()
	file, err := w.plane.Kubeconfig("eproxy", token, namespace)
	if err != nil {
		w.t.Fatal(err)
	}
	abs, err := filepath.Abs(bin)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.StartEproxy(context.Background(), w.t.TempDir(), lab.Eproxy{Bin: abs, Mode: mode, Config: config + "kubernetes: {kubeconfig: " + file + more + "}\n"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			w.t.Errorf("eproxy ended with %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("eproxy's log:\n%s", p.Log())
		}
	})
	return p
}

// pods are those that mapsctl shows, by their address.
func (w *world) pods() map[string]map[string]any {
	w.t.Helper()
	pods := make(map[string]map[string]any)
	for _, p := range w.mapsctl("pods") {
		pods[p["pod"].(string)] = p
	}
	return pods
}

// mapsctl is what mapsctl shows.
func (w *world) mapsctl(what string) (list []map[string]any) {
	w.t.Helper()
	out, err := exec.Command(bin+"/mapsctl", what, "-o", "json", "--bpffs", w.BPFFS()).Output()
	if err != nil {
		w.t.Fatalf("mapsctl %s: %v", what, err)
	}
	if err := json.Unmarshal(out, &list); err != nil {
		w.t.Fatalf("mapsctl %s: %v: %s", what, err, out)
	}
	return list
}

// device connects a client.
func (w *world) device(id string) mqtt.Client {
	w.t.Helper()
	address := net.JoinHostPort(lab.NodeV4.String(), "1883")
	o := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return w.Dial(context.Background(), lab.Dev, address)
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(waitTime) || tok.Error() != nil {
		w.t.Fatalf("connect: %v", tok.Error())
	}
	w.t.Cleanup(func() { c.Disconnect(250) })
	return c
}

const waitTime = time.Minute

// send publishes with QoS 1 and waits for the acknowledgement.
func (w *world) send(c mqtt.Client, payload string) {
	w.t.Helper()
	if tok := c.Publish("sensors/d/temp", 1, false, payload); !tok.WaitTimeout(waitTime) || tok.Error() != nil {
		w.t.Fatalf("message %q is not acknowledged: %v", payload, tok.Error())
	}
	if w.had(payload) == "" {
		w.t.Fatalf("message %q is acknowledged, and no function had it", payload)
	}
}

// until waits for something.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	w.untilSo(func() string { return what }, ok)
}

// untilSo is until; what is asked when it is in vain.
func (w *world) untilSo(what func() string, ok func() bool) {
	w.t.Helper()
	if !await.Within(waitTime, ok) {
		w.t.Fatal("waited in vain for " + what())
	}
}

// untilRouted publishes until a pod has a message; what comes before the route is there
// is the server's, and acknowledged without a function.
func (w *world) untilRouted(c mqtt.Client, name string, pod lab.Role) {
	w.t.Helper()
	n := 0
	w.until("messages to go to "+string(pod), func() bool {
		n++
		payload := fmt.Sprint(name, " ", n)
		if tok := c.Publish("sensors/d/temp", 1, false, payload); !tok.WaitTimeout(waitTime) || tok.Error() != nil {
			w.t.Fatalf("message %q is not acknowledged: %v", payload, tok.Error())
		}
		return w.had(payload) == pod
	})
}

// says waits until the log has a line, and fails if it is there more than once.
func (w *world) says(p *lab.Process, part string) {
	w.t.Helper()
	w.until(part, func() bool { return strings.Contains(p.Log(), part) })
	if n := strings.Count(p.Log(), part); n != 1 {
		w.t.Errorf("%d times %q", n, part)
	}
}
