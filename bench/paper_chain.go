package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

// Components of a chain, as the paper has them.
const (
	partDevice   = "device"
	partFunction = "function"
	partProxy    = "proxy"
	partAdaptor  = "adaptor"
	partBroker   = "broker"
	partKernel   = "kernel"
	partOther    = "other"
)

// paperParts are all components, in the order of the table.
var paperParts = []string{partDevice, partFunction, partProxy, partAdaptor, partBroker, partKernel, partOther}

// errMissing means that something of a chain is not on this machine.
var errMissing = errors.New("missing")

// Ports of a pod: the function's, and that of queue-proxy in front of it.
const (
	functionPort = "8080"
	queuePort    = "8012"
)

// chainKind is a way from devices to a function.
type chainKind struct {
	name, text string
	start      []func(*chain) error // what is between, in the order in which it starts
	mqtt       bool                 // devices publish
	port       string               // of the pod, that the first before it calls
}

const (
	chainPlain    = "http"
	chainObserved = "http-eproxy"
)

// chainKinds are all of them, the baseline first.
var chainKinds = []chainKind{
	{chainPlain, "HTTP to the function", nil, false, functionPort},
	{chainObserved, "the same, with eproxy's observer in the kernel (monitoring: true)", []func(*chain) error{(*chain).observer}, false, functionPort},
	{"http-qproxy", "HTTP through Knative's queue-proxy in the pod", []func(*chain) error{(*chain).queueProxy}, false, queuePort},
	{"mqtt-qproxy", "Mosquitto, adaptor in Go, queue-proxy", []func(*chain) error{(*chain).queueProxy, (*chain).broker, (*chain).goAdaptor}, true, queuePort},
	{"mqtt-qproxy-node", "Mosquitto, adaptor in Node, queue-proxy", []func(*chain) error{(*chain).queueProxy, (*chain).broker, (*chain).nodeAdaptor}, true, queuePort},
	{"mqtt-eproxy", "Mosquitto, adaptor in Go, eproxy's observer", []func(*chain) error{(*chain).observer, (*chain).broker, (*chain).goAdaptor}, true, functionPort},
	{"mqtt-eproxy-node", "Mosquitto, adaptor in Node, eproxy's observer", []func(*chain) error{(*chain).observer, (*chain).broker, (*chain).nodeAdaptor}, true, functionPort},
	{rowTC, "eproxy takes messages by TC, observer on", []func(*chain) error{(*chain).eproxy}, true, functionPort},
	{rowXDP, "eproxy takes messages by XDP, observer on", []func(*chain) error{(*chain).eproxy}, true, functionPort},
}

func chainNames() (names []string) {
	for _, k := range chainKinds {
		names = append(names, k.name)
	}
	return names
}

// chain is one that is up, in a lab of its own.
type chain struct {
	*bench
	kind  *chainKind
	row   *paperRow
	parts []part
	log   *arrivals
	after []func() error // undoes what was started
}

// part is a process of a component.
type part struct {
	name    string
	process *lab.Process // nil: this one, the devices
}

// startChain starts a chain, which is to be stopped also after an error, if there is one.
func startChain(c *cli.Context, kind *chainKind) (x *chain, err error) {
	b, err := newLab(c)
	x = &chain{bench: b, kind: kind, parts: []part{{partDevice, nil}}}
	if err != nil {
		return x, err
	}
	x.log = newArrivals(filepath.Join(b.dir, "arrivals"))
	if err := x.add(partFunction, lab.Pod0, lab.Command(c.Context, b.self, "function", "--arrivals", x.log.path)); err != nil {
		return x, err
	}
	for _, start := range kind.start {
		if err := start(x); err != nil {
			if errors.Is(err, errMissing) {
				return nil, errors.Join(err, x.stop())
			}
			return x, err
		}
	}
	return x, nil
}

func (x *chain) stop() (err error) {
	for _, f := range slices.Backward(x.after) {
		err = errors.Join(err, f())
	}
	x.close()
	return err
}

// add starts a component that says when it serves.
func (x *chain) add(name string, on lab.Role, cmd *exec.Cmd) error {
	p, err := x.lab.StartServing(on, cmd)
	if err != nil {
		return err
	}
	x.has(name, p, p.Stop)
	return nil
}

// addPort starts a component that serves when it listens.
func (x *chain) addPort(name string, on lab.Role, cmd *exec.Cmd, address string) error {
	p, err := x.lab.StartLogged(on, cmd)
	if err != nil {
		return err
	}
	x.has(name, p, func() error { p.Kill(); return nil }) // queue-proxy would drain for 30 s
	for late := time.After(10 * time.Second); ; {
		conn, err := x.lab.Dial(x.c.Context, on, address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended at once: %s", cmd.Path, p.Log())
		case <-late:
			return fmt.Errorf("%s does not listen at %s: %s", cmd.Path, address, p.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (x *chain) has(name string, p *lab.Process, stop func() error) {
	x.parts = append(x.parts, part{name, p})
	x.after = append(x.after, stop)
}

// file is a path that must be there.
func file(elem ...string) (string, error) {
	path := filepath.Join(elem...)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: %s", errMissing, path)
	}
	return filepath.Abs(path)
}

// program is one of the system's.
func program(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s", errMissing, name)
}

// paperConfig is eproxy's for one pod. %s: the listener's address.
const paperConfig = `listeners: [{address: %q}]
monitoring: true
functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["10.88.1.2:8080"]}
routes:
  - {topic: sensors/+/temp, function: temp}
`

// observer is the loader with nothing to take.
func (x *chain) observer() error { return x.loader(partProxy, rowTC, "127.0.0.1:1899") }

// eproxy is the loader in the mode of the chain's name, in place of broker, adaptor and proxy.
func (x *chain) eproxy() error { return x.loader(partAdaptor, x.kind.name, ":1883") }

func (x *chain) loader(name, mode, listen string) error {
	p, err := x.lab.StartEproxy(x.c.Context, x.dir, lab.Eproxy{Bin: x.bin, Mode: mode, Config: fmt.Sprintf(paperConfig, listen)})
	if err != nil {
		return err
	}
	x.has(name, p, p.Stop)
	return nil
}

// queueEnvironment is what Knative sets for a function with everything at its default.
var queueEnvironment = []string{
	"CONTAINER_CONCURRENCY=0", "QUEUE_SERVING_PORT=" + queuePort, "QUEUE_SERVING_TLS_PORT=8112", "USER_PORT=" + functionPort,
	"REVISION_TIMEOUT_SECONDS=300", "SERVING_LOGGING_CONFIG=", "SERVING_LOGGING_LEVEL=info",
	"SERVING_NAMESPACE=default", "SERVING_CONFIGURATION=temp", "SERVING_REVISION=temp-00001", "SERVING_POD=temp-00001-0", "SERVING_POD_IP=10.88.1.2",
}

func (x *chain) queueProxy() error {
	path, err := file(x.c.Path("bin"), "queue")
	if err != nil {
		return err
	}
	cmd := lab.Command(x.c.Context, path)
	cmd.Env = append(os.Environ(), queueEnvironment...)
	return x.addPort(partProxy, lab.Pod0, cmd, "127.0.0.1:"+queuePort)
}

// brokerConfig is Mosquitto's. Its own bounds on what waits for a subscriber would have it drop messages before the chain is
// saturated, so they are lifted as far as memory bounds them.
const brokerConfig = `listener 1883
allow_anonymous true
persistence false
log_dest none
max_inflight_messages 1000
max_queued_messages 100000
`

func (x *chain) broker() error {
	path, err := program("mosquitto")
	if err != nil {
		return err
	}
	conf := filepath.Join(x.dir, "mosquitto.conf")
	if err := os.WriteFile(conf, []byte(brokerConfig), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(x.dir, 0o755); err != nil { // it gives up root
		return err
	}
	return x.addPort(partBroker, lab.Node, lab.Command(x.c.Context, path, "-c", conf), "127.0.0.1:1883")
}

// adaptorConnections is how many an adaptor has to the pod, at most.
const adaptorConnections = "64"

func (x *chain) url() string {
	return "http://" + net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), x.kind.port) + "/ingest"
}

func (x *chain) goAdaptor() error {
	path, err := file(x.c.Path("bin"), "adaptor")
	if err != nil {
		return err
	}
	return x.add(partAdaptor, lab.Node, lab.Command(x.c.Context, path, "-filter", "sensors/+/temp", "-url", x.url(), "-connections", adaptorConnections))
}

func (x *chain) nodeAdaptor() error {
	node, err := program("node")
	if err != nil {
		return err
	}
	if _, err := file(x.c.Path("node"), "node_modules", "undici"); err != nil {
		return err
	}
	script, err := file(x.c.Path("node"), "adaptor.mjs")
	if err != nil {
		return err
	}
	return x.add(partAdaptor, lab.Node, lab.Command(x.c.Context, node, script, "mqtt://127.0.0.1:1883", "sensors/+/temp", x.url(), adaptorConnections))
}

// dialer opens the devices' connections.
func (x *chain) dialer() load.Dialer {
	payload := x.c.Int("payload")
	if x.kind.mqtt {
		return load.MQTT{Topic: topic, Payload: payload, Stamp: true, Dial: func(ctx context.Context) (net.Conn, error) {
			return x.lab.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
		}}.Open
	}
	to := strings.TrimSuffix(strings.TrimPrefix(x.url(), "http://"), "/ingest")
	return load.HTTP{Topic: topic, Payload: payload, Stamp: true, Dial: func(ctx context.Context, _ int) (net.Conn, error) {
		return x.lab.Dial(ctx, lab.Dev, to)
	}}.Open
}
