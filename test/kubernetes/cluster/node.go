package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// NodeName is the only node's.
const NodeName = "node1"

// pauseImage is the one that holds a pod's namespaces.
const pauseImage = "localhost/pause:latest"

// Node is what makes a whole cluster of an API server: controllers, scheduler, kubelet and
// containerd, all on the lab's node.
type Node struct {
	plane     *Plane
	dir       string // short: the paths of sockets have 107 bytes
	processes []*lab.Process
}

// StartNode starts a node of a cluster. Pods are joined to it by the CNI plugin bridge or ptp.
func StartNode(ctx context.Context, p *Plane, cni string, images ...string) (*Node, error) {
	dir, err := os.MkdirTemp("", "k8s-")
	if err != nil {
		return nil, err
	}
	n := &Node{plane: p, dir: dir}
	for _, step := range []func() error{
		func() error { return n.files(cni) },
		func() error { return n.containerd(ctx, images) },
		func() error { return n.controllers(ctx) },
		n.serviceAddress,
		func() error { return n.kubelet(ctx) },
	} {
		if err := step(); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

func (n *Node) file(name string) string { return filepath.Join(n.dir, name) }

// files writes the configurations.
func (n *Node) files(cni string) error {
	fill := strings.NewReplacer("DIR", n.dir, "PAUSE", pauseImage, "CNI", cni)
	if err := os.MkdirAll(n.file("cni"), 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"containerd.toml": `version = 2
root = "DIR/containerd"
state = "DIR/state"
[grpc]
address = "DIR/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "PAUSE"
disable_apparmor = true
restrict_oom_score_adj = true
disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "DIR/cni"
`,
		"cni/10-pods.conflist": `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "CNI", "bridge": "cni0", "isGateway": true,
  "ipam": {"type": "host-local", "dataDir": "DIR/ipam", "ranges": [[{"subnet": "10.99.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`,
		"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://DIR/c.sock
authentication: {webhook: {enabled: false}, anonymous: {enabled: true}}
authorization: {mode: AlwaysAllow}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
failSwapOn: false
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
syncFrequency: 10s
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
`,
	} {
		if err := os.WriteFile(n.file(name), []byte(fill.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start starts a program on the node.
func (n *Node) start(ctx context.Context, name string, args ...string) (*lab.Process, error) {
	p, err := n.plane.lab.StartLogged(lab.Node, lab.Command(ctx, name, args...))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(name), err)
	}
	n.processes = append(n.processes, p)
	return p, nil
}

// containerd starts the container runtime and gives it images.
func (n *Node) containerd(ctx context.Context, images []string) error {
	p, err := n.start(ctx, "containerd", "--config", n.file("containerd.toml"))
	if err != nil {
		return err
	}
	limit := time.Now().Add(time.Minute)
	for {
		_, err := n.ctr("version")
		if err == nil {
			break
		}
		if time.Now().After(limit) {
			return fmt.Errorf("containerd does not answer: %w: %s", err, tail(p.Log()))
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, i := range images {
		if out, err := n.ctr("image", "import", i); err != nil {
			return fmt.Errorf("import %s: %w: %s", i, err, out)
		}
	}
	return nil
}

// ctr runs containerd's client.
func (n *Node) ctr(args ...string) (string, error) {
	out, err := exec.Command("ctr", append([]string{"--address", n.file("c.sock"), "--namespace", "k8s.io"}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// controllers starts the controllers and the scheduler.
func (n *Node) controllers(ctx context.Context) error {
	file, err := n.plane.Kubeconfig("admin", adminToken, "default")
	if err != nil {
		return err
	}
	if _, err := n.start(ctx, filepath.Join(n.plane.bin, "kube-controller-manager"), "--kubeconfig="+file, "--leader-elect=false",
		"--root-ca-file="+filepath.Join(n.plane.dir, "certs", "apiserver.crt"), "--service-account-private-key-file="+filepath.Join(n.plane.dir, "sa.key")); err != nil {
		return err
	}
	_, err = n.start(ctx, filepath.Join(n.plane.bin, "kube-scheduler"), "--kubeconfig="+file, "--leader-elect=false")
	return err
}

// serviceAddress stands in for kube-proxy where pods need it: the API server's ClusterIP.
func (n *Node) serviceAddress() error {
	rules := fmt.Sprintf(`table ip services {
  chain output { type nat hook output priority -100; ip daddr 10.96.0.1 tcp dport 443 dnat to %s:%d; }
}
`, lab.NodeV4, port)
	file := n.file("services.nft")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		return err
	}
	// what is rewritten needs a route before it is
	for _, command := range [][]string{{"ip", "route", "add", "10.96.0.0/16", "dev", "eth0", "src", lab.NodeV4.String()}, {"nft", "-f", file}} {
		if out, err := n.plane.lab.Run(context.Background(), lab.Node, command[0], command[1:]...); err != nil {
			return fmt.Errorf("%s: %w: %s", command[0], err, out)
		}
	}
	return nil
}

// kubelet starts the kubelet.
func (n *Node) kubelet(ctx context.Context) error {
	file, err := n.plane.Kubeconfig("node", nodeToken, "default")
	if err != nil {
		return err
	}
	_, err = n.start(ctx, filepath.Join(n.plane.bin, "kubelet"), "--config="+n.file("kubelet.yaml"), "--kubeconfig="+file, "--hostname-override="+NodeName,
		"--node-ip="+lab.NodeV4.String(), "--root-dir="+n.file("kubelet"), "--cert-dir="+n.file("kubelet-certs"))
	return err
}

// Kill kills the processes of the containers that have a name; it says how many.
func (n *Node) Kill(container string) (int, error) {
	killed := 0
	ids, err := n.ctr("containers", "ls", "-q", `labels."io.kubernetes.container.name"==`+container)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, ids)
	}
	for _, id := range strings.Fields(ids) {
		if _, err := n.ctr("tasks", "kill", "-s", "KILL", id); err == nil { // it may have ended
			killed++
		}
	}
	return killed, nil
}

// Log is the end of what the node's programs have said.
func (n *Node) Log() string {
	var out strings.Builder
	for _, p := range n.processes {
		fmt.Fprintf(&out, "%s\n\n", tail(p.Log()))
	}
	return out.String()
}

// Close stops the node, with all containers: the kubelet first, which would start them again.
func (n *Node) Close() {
	for i := len(n.processes) - 1; i > 0; i-- {
		n.processes[i].Kill()
	}
	if len(n.processes) > 0 {
		n.stopContainers()
		n.processes[0].Kill()
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, n.dir+"/") {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/k8s.io/*")
	for _, g := range groups {
		_ = os.Remove(g)
	}
	groups, _ = filepath.Glob("/sys/fs/cgroup/*/k8s.io")
	for _, g := range groups {
		_ = os.Remove(g)
	}
	_ = os.RemoveAll(n.dir)
}

// stopContainers kills what runs and removes it: a shim would go on without containerd.
func (n *Node) stopContainers() {
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		ids, err := n.ctr("tasks", "ls", "-q")
		if err != nil || ids == "" {
			return
		}
		for _, id := range strings.Fields(ids) {
			_, _ = n.ctr("tasks", "kill", "-s", "KILL", id)
			_, _ = n.ctr("tasks", "delete", "--force", id)
		}
	}
}
