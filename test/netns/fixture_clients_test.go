package netns

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/lab"
)

// message is one publish of a client.
type message struct {
	topic, payload string
	qos            byte
}

// client publishes messages and returns when all are acknowledged.
type client struct {
	name string
	// merges: it may put several PUBLISHes into one segment, which is not
	// eligible for the kernel path.
	merges  bool
	publish func(t *testing.T, l *lab.Lab, host, id string, ms []message) error
}

const clientTimeout = 60 * time.Second

func clients() []client {
	return []client{
		{name: "mosquitto_pub-3.1.1", publish: mosquittoEach("mqttv311")},
		{name: "mosquitto_pub-5", publish: mosquittoEach("mqttv5")},
		{name: "mosquitto_pub-l", merges: true, publish: mosquittoLines},
		{name: "mosquitto_pub-s", publish: mosquittoStdin},
		{name: "paho-3.1.1", publish: pahoV3(4)},
		{name: "paho-3.1", publish: pahoV3(3)},
		{name: "paho-5", publish: pahoV5},
		{name: "npm-mqtt-3.1.1", merges: true, publish: npm("4")},
		{name: "npm-mqtt-5", merges: true, publish: npm("5")},
	}
}

func mosquitto(t *testing.T, l *lab.Lab, host, id, stdin string, args ...string) error {
	t.Helper()
	return onDevice(l, stdin, "mosquitto_pub", append([]string{"-h", host, "-i", id}, args...)...)
}

// onDevice runs a program on the device until it ends.
func onDevice(l *lab.Lab, stdin, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	var out []byte
	err := l.Do(lab.Dev, func() error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func mosquittoEach(version string) func(*testing.T, *lab.Lab, string, string, []message) error {
	return func(t *testing.T, l *lab.Lab, host, id string, ms []message) error {
		for _, m := range ms {
			if err := mosquitto(t, l, host, id, "", "-V", version, "-t", m.topic, "-q", fmt.Sprint(m.qos), "-m", m.payload); err != nil {
				return err
			}
		}
		return nil
	}
}

// mosquittoLines sends a line at a time; all messages go to the first's topic.
func mosquittoLines(t *testing.T, l *lab.Lab, host, id string, ms []message) error {
	byQoS := map[byte]string{}
	for _, m := range ms {
		byQoS[m.qos] += m.payload + "\n"
	}
	for q, lines := range byQoS {
		if err := mosquitto(t, l, host, id, lines, "-t", ms[0].topic, "-q", fmt.Sprint(q), "-l"); err != nil {
			return err
		}
	}
	return nil
}

func mosquittoStdin(t *testing.T, l *lab.Lab, host, id string, ms []message) error {
	for _, m := range ms {
		if err := mosquitto(t, l, host, id, m.payload, "-t", m.topic, "-q", fmt.Sprint(m.qos), "-s"); err != nil {
			return err
		}
	}
	return nil
}

func pahoV3(level uint) func(*testing.T, *lab.Lab, string, string, []message) error {
	return func(t *testing.T, l *lab.Lab, host, id string, ms []message) error {
		addr := net.JoinHostPort(host, "1883")
		o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetProtocolVersion(level).SetAutoReconnect(false)
		o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			return l.Dial(context.Background(), lab.Dev, addr)
		})
		c := mqtt.NewClient(o)
		if tok := c.Connect(); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
			return fmt.Errorf("paho connect: %w", tok.Error())
		}
		defer c.Disconnect(250)
		for _, m := range ms {
			if tok := c.Publish(m.topic, m.qos, false, m.payload); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
				return fmt.Errorf("paho publish %q: %w", m.payload, tok.Error())
			}
		}
		return nil
	}
}

// pahoSubscribe connects a client of MQTT 3.1.1 that receives, until the test ends.
func pahoSubscribe(t *testing.T, l *lab.Lab, id, filter string, got func(payload string)) mqtt.Client {
	t.Helper()
	addr := net.JoinHostPort(lab.NodeV4.String(), "1883")
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return l.Dial(context.Background(), lab.Dev, addr)
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(250) })
	if tok := c.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) { got(string(m.Payload())) }); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		t.Fatalf("subscribe: %v", tok.Error())
	}
	return c
}

func pahoV5(t *testing.T, l *lab.Lab, host, id string, ms []message) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	conn, err := l.Dial(ctx, lab.Dev, net.JoinHostPort(host, "1883"))
	if err != nil {
		return err
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		return fmt.Errorf("paho v5 connect: %w", err)
	}
	for _, m := range ms {
		if _, err := c.Publish(ctx, &paho.Publish{Topic: m.topic, QoS: m.qos, Payload: []byte(m.payload)}); err != nil {
			return fmt.Errorf("paho v5 publish %q: %w", m.payload, err)
		}
	}
	return c.Disconnect(&paho.Disconnect{})
}

func npm(version string) func(*testing.T, *lab.Lab, string, string, []message) error {
	return func(t *testing.T, l *lab.Lab, host, id string, ms []message) error {
		ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
		defer cancel()
		for _, q := range []byte{0, 1} {
			args := []string{filepath.Join("node", "publish.js"), "mqtt://" + net.JoinHostPort(host, "1883"), id, ms[0].topic, version, fmt.Sprint(q)}
			for _, m := range ms {
				if m.qos == q {
					args = append(args, m.payload)
				}
			}
			if out, err := l.Run(ctx, lab.Dev, "node", args...); err != nil {
				return fmt.Errorf("npm mqtt: %w: %s", err, out)
			}
		}
		return nil
	}
}
