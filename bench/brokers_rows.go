package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"eproxy/internal/cliutil"
	"eproxy/test/lib/lab"
)

// Rows of `bench brokers`, beside rowFallback, which is eproxy without programs. With otherPrefix in front one has the binaries of --other.
const (
	rowMosquitto = "mosquitto"
	rowEmbedded  = "eproxy" // the loader
	rowRelay     = "relay"
	otherPrefix  = "other-"
)

// brokerRow is where a row's clients connect, and who works for them.
type brokerRow struct {
	plain, tls string
	processes  []*lab.Process
}

// used is what a row's processes have used so far.
type used struct {
	time     time.Duration
	switches int
}

func (r *brokerRow) used() (u used, err error) {
	for _, p := range r.processes {
		t, err := p.Busy()
		if err != nil {
			return used{}, err
		}
		n, err := p.Switches()
		if err != nil {
			return used{}, err
		}
		u.time += t
		u.switches += n
	}
	return u, nil
}

// brokersConfig is eproxy's: listeners, and a function that nothing is for.
const brokersConfig = `listeners:
  - address: ":%d"
  - {address: ":%d", tls: {cert: %s, key: %s}}
functions: [{name: temp, url: "http://temp.local/", pods: ["10.88.1.2:8080"]}]
routes: [{topic: "sensors/+/temp", function: temp}]
`

// mosquittoConfig is Mosquitto's, with the same listeners.
const mosquittoConfig = `user root
listener %d
allow_anonymous true
max_queued_messages 100000
listener %d
allow_anonymous true
certfile %s
keyfile %s
log_type none
`

// Ports of Mosquitto; those of the other rows follow.
const (
	mosquittoPlain = 1884
	mosquittoTLS   = 8884
)

// startBrokers starts Mosquitto and what is measured; those whose turn it is not have no clients.
func (b *bench) startBrokers(names []string) (map[string]*brokerRow, error) {
	cert, key, err := writeCertificate(b.dir, net.ParseIP(lab.NodeV4.String()))
	if err != nil {
		return nil, err
	}
	config, err := b.write(rowMosquitto, fmt.Sprintf(mosquittoConfig, mosquittoPlain, mosquittoTLS, cert, key))
	if err != nil {
		return nil, err
	}
	mosquitto, err := b.lab.StartLogged(lab.Node, lab.Command(b.c.Context, rowMosquitto, "-c", config))
	if err != nil {
		return nil, err
	}
	b.after = append(b.after, func() { _ = mosquitto.Stop() })
	rows := map[string]*brokerRow{rowMosquitto: brokerRowAt(mosquittoPlain, mosquittoTLS, mosquitto)}
	for i, name := range names {
		if rows[name] != nil {
			continue
		}
		plain, secure := mosquittoPlain+1+i, mosquittoTLS+1+i
		p, err := b.startEproxy(name, fmt.Sprintf(brokersConfig, plain, secure, cert, key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if rows[name] = brokerRowAt(plain, secure, p); strings.HasSuffix(name, rowRelay) {
			rows[name].processes = append(rows[name].processes, mosquitto)
		}
	}
	return rows, nil
}

// startEproxy starts a row of eproxy's.
func (b *bench) startEproxy(name, config string) (*lab.Process, error) {
	bin, kind := b.bin, name
	if rest, ok := strings.CutPrefix(name, otherPrefix); ok {
		bin, kind = b.c.Path("other"), rest
	}
	argv := []string{"userspace-fallback"}
	switch kind {
	case rowEmbedded:
		argv = []string{"loader", "run"}
		config = "interfaces: [eth0]\nbpffs: " + b.lab.BPFFS() + "\n" + config
	case rowFallback:
	case rowRelay:
		config = fmt.Sprintf("broker: {mode: relay, url: \"tcp://127.0.0.1:%d\"}\n", mosquittoPlain) + config
	default:
		return nil, cliutil.Usagef("--rows: no such row")
	}
	file, err := b.write(name, config)
	if err != nil {
		return nil, err
	}
	p, err := b.lab.StartServing(lab.Node, lab.Command(b.c.Context, filepath.Join(bin, argv[0]), append(argv[1:], "--config", file)...))
	if err == nil {
		b.after = append(b.after, func() { _ = p.Stop() })
	}
	return p, err
}

// write writes a program's configuration file.
func (b *bench) write(name, text string) (string, error) {
	file := filepath.Join(b.dir, name+".conf")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func brokerRowAt(plain, secure int, processes ...*lab.Process) *brokerRow {
	at := func(port int) string { return net.JoinHostPort(lab.NodeV4.String(), fmt.Sprint(port)) }
	return &brokerRow{at(plain), at(secure), processes}
}
