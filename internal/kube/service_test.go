package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discovery "k8s.io/api/discovery/v1"

	"eproxy/internal/config"
	"eproxy/internal/endpoints"
	"eproxy/test/lib/await"
)

// logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// until waits for something.
func until(t *testing.T, what func() string, ok func() bool) {
	t.Helper()
	if !await.Within(time.Minute, ok) {
		t.Fatal(what())
	}
}

// follow watches a configuration with one function, whose pods are a Service's.
func follow(t *testing.T, kubeconfig string, s config.Service) (pods func(want string), log *logged) {
	t.Helper()
	log = &logged{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	cfg := &config.Config{Functions: []*config.Function{{Name: "f", Discover: config.Discover{Service: s}}}}
	w := endpoints.Watch(cfg, endpoints.Sources{Cluster: New(config.Kubernetes{Kubeconfig: kubeconfig}, logger)}, logger)
	t.Cleanup(w.Close)
	return func(want string) {
		t.Helper()
		got := func() string { return fmt.Sprint(w.Apply(cfg).Functions[0].Pods) }
		until(t, func() string { return fmt.Sprintf("pods %s, want %s; log:\n%s", got(), want, log) }, func() bool { return got() == want })
	}, log
}

// has waits until a line was logged, and fails if it is there more than once.
func (l *logged) has(t *testing.T, part string) {
	t.Helper()
	until(t, func() string { return fmt.Sprintf("no %q in\n%s", part, l) }, func() bool { return strings.Contains(l.String(), part) })
	if n := strings.Count(l.String(), part); n != 1 {
		t.Errorf("%d times %q in\n%s", n, part, l)
	}
}

var temp = config.Service{Name: "temp"}

// TestService: the pods of a function are those that a Service's EndpointSlices name,
// with servers that stream lists and with others.
func TestService(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprint("old=", old), func(t *testing.T) {
			a := newAPIServer(t)
			a.old = old
			a.set("temp-1", of("IPv4", ports("", 8080), ready("10.0.0.1"), unready("10.0.0.2")))
			pods, log := follow(t, a.kubeconfig(), temp)
			pods("[10.0.0.1:8080]")
			a.set("temp-2", of("IPv6", ports("", 8081), ready("fd00::1")))
			pods("[10.0.0.1:8080 [fd00::1]:8081]")
			a.set("temp-1", of("IPv4", ports("", 8080), unready("10.0.0.1"), ready("10.0.0.2")))
			pods("[10.0.0.2:8080 [fd00::1]:8081]")
			a.set("temp-2", nil)
			pods("[10.0.0.2:8080]")
			a.set("temp-1", of("IPv4", nil))
			pods("[]")
			if text := log.String(); text != "" {
				t.Errorf("a Service without pods is none of the things to warn of:\n%s", text)
			}
			a.set("temp-1", nil)
			log.has(t, "does the Service exist?")
			a.set("temp-1", of("IPv4", ports("a", 1, "b", 2), ready("10.0.0.1")))
			log.has(t, "none of several is named http")
			a.set("temp-1", of("IPv4", ports("a", 1, "http", 2), ready("10.0.0.1")))
			pods("[10.0.0.1:2]")
			log.has(t, "may have pods again")
			for _, q := range strings.Split(a.queries(), "\n") {
				if !strings.Contains(q, "labelSelector=kubernetes.io%2Fservice-name%3Dtemp") {
					t.Errorf("%s asks for more than the Service", q)
				}
			}
		})
	}
}

// TestOutage: while the API server is gone the pods stay that it named last; when it is back they
// follow, and each is said once, however often it was asked meanwhile.
func TestOutage(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	file := a.kubeconfig()
	pods, log := follow(t, file, temp)
	pods("[10.0.0.1:80]")
	a.stop()
	log.has(t, "cannot be asked, what it said last stays")
	pods("[10.0.0.1:80]")
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.2")))
	a.refuse(http.StatusServiceUnavailable) // as while it starts
	a.start()
	asked := len(a.queries())
	until(t, a.queries, func() bool { return len(a.queries()) > asked })
	pods("[10.0.0.1:80]")
	a.refuse(0)
	pods("[10.0.0.2:80]")
	log.has(t, "answers again")
	log.has(t, "cannot be asked, what it said last stays")
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want one each way:\n%s", n, log)
	}
}

// TestDenied: what the API server does not allow is one line, and over when it does.
func TestDenied(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	a.refuse(http.StatusForbidden)
	pods, log := follow(t, a.kubeconfig(), temp)
	log.has(t, "refused: Forbidden")
	asked := func() int { return strings.Count(a.queries(), "\n") }
	several := asked() + 4
	until(t, a.queries, func() bool { return asked() >= several })
	log.has(t, "refused: Forbidden")
	a.refuse(0)
	pods("[10.0.0.1:80]")
	log.has(t, "source of pods is back")
}

// TestDeniedToWatch: a list without a watch would grow old unnoticed, so it counts for nothing.
func TestDeniedToWatch(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	a.noWatch = true
	pods, log := follow(t, a.kubeconfig(), temp)
	log.has(t, "refused: Forbidden")
	asked := func() int { return strings.Count(a.queries(), "\n") }
	several := asked() + 6
	until(t, a.queries, func() bool { return asked() >= several })
	log.has(t, "refused: Forbidden")
	if strings.Contains(log.String(), "is back") {
		t.Error(log)
	}
	a.mu.Lock()
	a.noWatch = false
	a.mu.Unlock()
	pods("[10.0.0.1:80]")
	log.has(t, "source of pods is back")
}

// TestUnauthorized: credentials that are not accepted concern all that is asked, and are one line.
func TestUnauthorized(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	a.refuse(http.StatusUnauthorized)
	pods, log := follow(t, a.kubeconfig(), temp)
	log.has(t, "cannot be asked")
	a.refuse(0)
	pods("[10.0.0.1:80]")
	log.has(t, "answers again")
}

// TestCredentials: a kubeconfig that is missing or wrong is one line, and read again
// until it is good.
func TestCredentials(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	for text, want := range map[string]string{"": "no such file or directory", "{": "did not find expected node content", "a: [": "yaml"} {
		path := filepath.Join(t.TempDir(), "kubeconfig")
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		pods, log := follow(t, path, temp)
		log.has(t, want)
		a.writeKubeconfig(path)
		pods("[10.0.0.1:80]")
		log.has(t, "source of pods is back")
		for _, line := range strings.Split(strings.TrimSpace(log.String()), "\n") {
			if !strings.Contains(line, "source=\"kubernetes temp\"") {
				t.Errorf("%s does not say what it is about", line)
			}
		}
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, _, err := credentials(config.Kubernetes{}); err == nil || !strings.Contains(err.Error(), "kubernetes.kubeconfig") {
		t.Errorf("outside of a cluster: %v", err)
	}
}

// TestFollowEnds: nothing is asked any more when nobody wants to know.
func TestFollowEnds(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	for _, file := range []string{a.kubeconfig(), "/nonexistent"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := New(config.Kubernetes{Kubeconfig: file}, slog.New(slog.DiscardHandler))
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Follow(ctx, temp, func([]endpoints.Pod) { cancel() }, func(error) { cancel() })
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("it goes on")
		}
	}
}

// TestFailureIsToldOnce: an error that comes again and again is told once, until another does.
func TestFailureIsToldOnce(t *testing.T) {
	a := newAPIServer(t)
	a.refuse(http.StatusForbidden)
	c := New(config.Kubernetes{Kubeconfig: a.kubeconfig()}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var told []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Follow(ctx, temp, func([]endpoints.Pod) { cancel() }, func(err error) { told = append(told, err.Error()) })
	}()
	until(t, a.queries, func() bool { return strings.Count(a.queries(), "\n") >= 6 })
	a.refuse(http.StatusNotFound)
	asked := strings.Count(a.queries(), "\n")
	until(t, a.queries, func() bool { return strings.Count(a.queries(), "\n") >= asked+4 })
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	a.refuse(0)
	<-done
	if len(told) != 2 || !strings.Contains(told[0], "Forbidden") || !strings.Contains(told[1], "Not Found") {
		t.Errorf("told %q", told)
	}
}

// TestTooMany: a Service with more pods than any node serves is an error, and changes nothing.
func TestTooMany(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	pods, log := follow(t, a.kubeconfig(), temp)
	pods("[10.0.0.1:80]")
	for i := range 5 {
		var all []discovery.Endpoint
		for j := range 1000 {
			all = append(all, ready(fmt.Sprintf("10.%d.%d.%d", i+1, j/250, j%250+1)))
		}
		a.set(fmt.Sprint("many-", i), of("IPv4", ports("", 80), all...))
	}
	log.has(t, "more than 4096 pods")
}

// TestExpired: a watch that cannot go on from where it was is begun anew by a list, and nobody is
// bothered with it.
func TestExpired(t *testing.T) {
	a := newAPIServer(t)
	a.set("temp-1", of("IPv4", ports("", 80), ready("10.0.0.1")))
	a.set("temp-2", of("IPv4", ports("", 80), ready("10.0.0.2")))
	pods, log := follow(t, a.kubeconfig(), temp)
	pods("[10.0.0.1:80 10.0.0.2:80]")
	a.expire("temp-2", nil)
	pods("[10.0.0.1:80]")
	a.expire("temp-1", of("IPv4", ports("", 80), ready("10.0.0.3")))
	pods("[10.0.0.3:80]")
	if text := log.String(); text != "" {
		t.Errorf("logged:\n%s", text)
	}
}

// TestClockSkew: where the clocks of the node and of the API server differ so much that its certificate is not
// valid here, that is one line, which says so.
func TestClockSkew(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	var handshakes atomic.Int64
	s.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		handshakes.Add(1)
		return nil, nil
	}
	s.StartTLS()
	defer s.Close()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
  clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}], users: [{name: u, user: {}}]}`, s.URL, ca)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, log := follow(t, path, temp)
	log.has(t, "certificate has expired or is not yet valid")
	until(t, log.String, func() bool { return handshakes.Load() >= 4 })
	log.has(t, "cannot be asked, what it said last stays")
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines, want one:\n%s", n, log)
	}
}
