package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"eproxy/test/lib/lab"
)

// port is the API server's, on all addresses of its host.
const port = 16443

// readyTime is how long the API server may take until it answers.
const readyTime = 2 * time.Minute

// adminToken is known to the API server as that of system:masters; nodeToken as the
// kubelet's. They are worth nothing: both ends are on one host, which goes with the test.
const (
	adminToken = "admintoken"
	nodeToken  = "nodetoken"
)

// Plane is etcd and an API server.
type Plane struct {
	lab  *lab.Lab
	dir  string // of all files
	bin  string // of the programs
	etcd *lab.Process
	api  *lab.Process
}

// Start runs both on the lab's node, with files in dir and programs from bin, and waits until the
// API server is ready.
func Start(ctx context.Context, l *lab.Lab, dir, bin string) (*Plane, error) {
	p := &Plane{lab: l, dir: dir, bin: bin}
	if err := p.secrets(); err != nil {
		return nil, err
	}
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	var err error
	p.etcd, err = l.StartLogged(lab.Node, lab.Command(ctx, "etcd", "--unsafe-no-fsync", "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer))
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if err := p.StartAPI(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// secrets makes the key that signs service accounts' tokens, and the file of tokens.
func (p *Plane) secrets() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(filepath.Join(p.dir, "sa.key"), pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	tokens := adminToken + `,admin,1,"system:masters"` + "\n" + nodeToken + `,system:node:` + NodeName + `,2,"system:nodes"` + "\n"
	return os.WriteFile(filepath.Join(p.dir, "tokens.csv"), []byte(tokens), 0o600)
}

// StartAPI starts the API server, at first and after StopAPI.
func (p *Plane) StartAPI(ctx context.Context) error {
	file := func(name string) string { return filepath.Join(p.dir, name) }
	var err error
	p.api, err = p.lab.StartLogged(lab.Node, lab.Command(ctx, filepath.Join(p.bin, "kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--advertise-address="+lab.NodeV4.String(), fmt.Sprint("--secure-port=", port), "--cert-dir="+file("certs"),
		"--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+file("sa.key"), "--service-account-signing-key-file="+file("sa.key"), "--token-auth-file="+file("tokens.csv"),
		"--authorization-mode=Node,RBAC", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP", "--endpoint-reconciler-type=none"))
	if err != nil {
		return fmt.Errorf("start kube-apiserver: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		if p.ready(ctx) {
			return nil
		}
		select {
		case <-p.api.Done():
			return fmt.Errorf("kube-apiserver ended: %s", tail(p.api.Log()))
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver is not ready after %s: %s", readyTime, tail(p.api.Log()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ready asks once; before the server has made its certificate there is nothing to ask with.
func (p *Plane) ready(ctx context.Context) bool {
	c, err := p.Client()
	if err != nil {
		return false
	}
	answer, err := c.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err == nil && string(answer) == "ok"
}

// StopAPI stops the API server; etcd keeps what it knew.
func (p *Plane) StopAPI() { p.api.Kill() }

// Close stops both.
func (p *Plane) Close() {
	if p.api != nil {
		p.api.Kill()
	}
	p.etcd.Kill()
}

// Log is the end of what the API server has said.
func (p *Plane) Log() string { return tail(p.api.Log()) }

// tail is the end of a log.
func tail(log string) string { return log[max(len(log)-4000, 0):] }

// Access says how this process reaches the API server: as an administrator.
func (p *Plane) Access() *rest.Config {
	return &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", port), BearerToken: adminToken, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(p.dir, "certs", "apiserver.crt"), ServerName: "localhost"},
		Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			return p.lab.Dial(ctx, lab.Node, address)
		},
	}
}

// Client is an administrator's client.
func (p *Plane) Client() (*kubernetes.Clientset, error) { return kubernetes.NewForConfig(p.Access()) }

// Kubeconfig writes a file that reaches the API server from its host with a token, and
// returns its path. Its context is in the namespace.
func (p *Plane) Kubeconfig(name, token, namespace string) (string, error) {
	path := filepath.Join(p.dir, name+".kubeconfig")
	text := strings.NewReplacer("PORT", fmt.Sprint(port), "CA", filepath.Join(p.dir, "certs", "apiserver.crt"), "TOKEN", token, "NAMESPACE", namespace).Replace(
		`{apiVersion: v1, kind: Config, current-context: lab, contexts: [{name: lab, context: {cluster: lab, user: lab, namespace: NAMESPACE}}],
  clusters: [{name: lab, cluster: {server: "https://127.0.0.1:PORT", certificate-authority: CA, tls-server-name: localhost}}],
  users: [{name: lab, user: {token: "TOKEN"}}]}
`)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
