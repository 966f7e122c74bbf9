package netns

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/certs"
	"eproxy/test/lib/lab"
)

// listenersConfig has a listener of every kind, after the files of their certificates.
const listenersConfig = `
listeners:
  - address: ":1883"
  - {address: ":8883", tls: {cert: %[1]s, key: %[2]s}}
  - {address: ":8884", tls: {cert: %[1]s, key: %[2]s, client_ca: %[3]s, crl: %[4]s, username: common_name}}
  - {address: ":8083", websocket: true}
  - {address: ":8084", websocket: true, tls: {cert: %[1]s, key: %[2]s}}
  - {address: ":1884", proxy_protocol: [%[5]s]}
auth: {allow_anonymous: true, users: [{username: device}]}
`

// TestListeners: real clients on every kind of listener at once. Every message arrives, from whom it came by
// name; what is plain is taken in the kernel, behind a proxy, too.
func TestListeners(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	a := certs.New(t)
	server, device := a.Issue("server", net.ParseIP(lab.NodeV4.String())), a.Issue("device")
	config := podConfig(routeConfig, false) + fmt.Sprintf(listenersConfig, server.Cert, server.Key, a.CA, a.Revoke(time.Now().Add(time.Hour)), "10.88.0.0/24")
	s := start(t, l, "tc", config)
	host := lab.NodeV4.String()
	ca := []string{"--cafile", a.CA}
	cases := []struct {
		name    string
		user    string
		publish func(id, topic string) error
	}{
		{"mosquitto-tls", "", func(id, topic string) error {
			return mosquitto(t, l, host, id, "", append(ca, "-p", "8883", "-t", topic, "-q", "1", "-m", "x")...)
		}},
		{"mosquitto-mtls", "device", func(id, topic string) error {
			return mosquitto(t, l, host, id, "", append(ca, "--cert", device.Cert, "--key", device.Key, "-u", "somebody", "-p", "8884", "-t", topic, "-q", "1", "-m", "x")...)
		}},
		{"npm-mqtts", "", func(id, topic string) error { return npmTo(l, "mqtts://"+host+":8883", a.CA, id, topic) }},
		{"npm-ws", "", func(id, topic string) error { return npmTo(l, "ws://"+host+":8083/mqtt", a.CA, id, topic) }},
		{"npm-wss", "", func(id, topic string) error { return npmTo(l, "wss://"+host+":8084/mqtt", a.CA, id, topic) }},
		{"paho-ssl", "", func(id, topic string) error { return pahoTo(l, "ssl", "8883", a.Client(nil), id, topic) }},
		{"paho-plain", "", func(id, topic string) error { return pahoTo(l, "tcp", "1883", nil, id, topic) }},
		{"paho-proxied", "", func(id, topic string) error { return pahoTo(l, "proxied", "1884", nil, id, topic) }},
	}
	for _, c := range cases {
		if err := c.publish(c.name, "sensors/"+c.name+"/temp"); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	got := map[string]request{}
	for _, q := range r.wait(t, len(cases)) {
		got[q.headers["ce-source"]] = q
	}
	for _, c := range cases {
		if q, ok := got["eproxy/"+c.name]; !ok || q.headers["x-mqtt-username"] != c.user {
			t.Errorf("%s: %v", c.name, q.headers)
		}
	}
	counts := s.counts()
	if taken := counts["xdp_device/taken"] + counts["tc_device_in/taken"]; taken != 2 {
		t.Errorf("the kernel took %d messages, want the 2 of plain connections: %v", taken, counts)
	}
	if err := mosquitto(t, l, host, "nobody", "", append(ca, "-p", "8884", "-t", "sensors/x/temp", "-q", "1", "-m", "x")...); err == nil {
		t.Error("a client without a certificate is served where one is asked for")
	}
}

// npmTo publishes one message by the npm client.
func npmTo(l *lab.Lab, to, ca, id, topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	out, err := l.Run(ctx, lab.Dev, "env", "NODE_EXTRA_CA_CERTS="+ca, "node", "node/publish.js", to, id, topic, "5", "1", "x")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// pahoTo publishes one message by paho.
func pahoTo(l *lab.Lab, scheme, port string, config *tls.Config, id, topic string) error {
	addr := net.JoinHostPort(lab.NodeV4.String(), port)
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		c, err := l.Dial(context.Background(), lab.Dev, addr)
		switch {
		case err != nil:
			return nil, err
		case scheme == "ssl":
			return tls.Client(c, config), nil
		case scheme == "proxied":
			_, err = io.WriteString(c, "PROXY TCP4 192.0.2.9 192.0.2.1 4711 1883\r\n")
			return c, err
		}
		return c, nil
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		return fmt.Errorf("connect: %w", tok.Error())
	}
	defer c.Disconnect(250)
	if tok := c.Publish(topic, 1, false, "x"); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		return fmt.Errorf("publish: %w", tok.Error())
	}
	return nil
}
