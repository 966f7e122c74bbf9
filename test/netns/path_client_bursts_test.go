package netns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/lab"
)

// burster publishes all payloads at once, as an application does that has them ready, and returns when they are
// acknowledged, or sent.
type burster struct {
	name    string
	publish func(t *testing.T, l *lab.Lab, id, topic string, qos byte, payloads []string) error
}

func bursters() []burster {
	return []burster{
		{"paho-3.1.1", pahoV3Burst},
		{"paho-5", pahoV5Burst},
		{"npm-mqtt", npmBurst},
		{"mosquitto_pub", mosquittoBurst},
	}
}

func pahoV3Burst(t *testing.T, l *lab.Lab, id, topic string, qos byte, payloads []string) error {
	addr := net.JoinHostPort(lab.NodeV4.String(), "1883")
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return l.Dial(context.Background(), lab.Dev, addr)
	})
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
		return fmt.Errorf("connect: %w", tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(250) })
	var tokens []mqtt.Token
	for _, p := range payloads {
		tokens = append(tokens, c.Publish(topic, qos, false, p))
	}
	for _, tok := range tokens {
		if !tok.WaitTimeout(clientTimeout) || tok.Error() != nil {
			return fmt.Errorf("publish: %w", tok.Error())
		}
	}
	return nil
}

func pahoV5Burst(t *testing.T, l *lab.Lab, id, topic string, qos byte, payloads []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	t.Cleanup(cancel)
	conn, err := l.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		return err
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var all sync.WaitGroup
	failed := make(chan error, len(payloads))
	for _, p := range payloads {
		all.Go(func() {
			if _, err := c.Publish(ctx, &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(p)}); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) }) // not before all has arrived: what it has not sent by then is lost
	return nil
}

func npmBurst(t *testing.T, l *lab.Lab, id, topic string, qos byte, payloads []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join("node", "burst.js"), "mqtt://"+net.JoinHostPort(lab.NodeV4.String(), "1883"), id, topic, "4", fmt.Sprint(qos))
	cmd.Stdin = strings.NewReader(strings.Join(payloads, "\n"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.Do(lab.Dev, cmd.Run); err != nil {
		return fmt.Errorf("npm mqtt: %w: %s", err, out.Bytes())
	}
	return nil
}

// mosquittoBurst has the lines of its input in flight at once, as many as it likes.
func mosquittoBurst(t *testing.T, l *lab.Lab, id, topic string, qos byte, payloads []string) error {
	return mosquitto(t, l, lab.NodeV4.String(), id, strings.Join(payloads, "\n")+"\n", "-t", topic, "-q", fmt.Sprint(qos), "-l")
}

// burstsConfig says nothing that it need not say.
const burstsConfig = `functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["%s:8080"]}
routes:
  - {topic: sensors/+/temp, function: temp}
`

// TestBurstsOfClients: ordinary clients publish many messages at once, with default settings, to a function that answers
// pipelined requests and to one that does not. Nearly all are taken in the kernel, also those that the MSS cuts, and each
// arrives once.
func TestBurstsOfClients(t *testing.T) {
	for _, pods := range []struct {
		name   string
		manner pipelinerManner
	}{{"pipelines", inOrder}, {"one at a time", onlyFirst}} {
		for _, b := range bursters() {
			t.Run(pods.name+"/"+b.name, func(t *testing.T) {
				l := newLab(t)
				p := &pipeliner{recorder: newRecorder(), manner: pods.manner}
				p.serve(t, l)
				s := start(t, l, "xdp", fmt.Sprintf(burstsConfig, lab.PodAddr(lab.Pod0, false)))
				for _, qos := range []byte{0, 1} { // first without any message of QoS 1
					for _, n := range []int{60, 300, 1000} {
						t.Run(fmt.Sprintf("qos%d/%d", qos, n), func(t *testing.T) { bursts(t, s, p.recorder, b, qos, n) })
					}
				}
			})
		}
	}
}

// bursts: a burst is taken, or the next two are. What a busy machine does to one of them (segments of a connection that meet on two
// processors, a client that stops in the middle of a message) costs a segment.
func bursts(t *testing.T, s *system, r *recorder, b burster, qos byte, n int) {
	for good, bad := 0, 0; good <= bad; {
		if missed := oneBurst(t, s, r, b, qos, n); missed == "" {
			good++
		} else if bad++; bad > 1 {
			t.Error(missed)
			return
		}
	}
}

// oneBurst publishes so many messages, and says what is wrong with the path that they took; each is delivered once.
func oneBurst(t *testing.T, s *system, r *recorder, b burster, qos byte, n int) (missed string) {
	r.forget()
	id := fmt.Sprintf("burst%d", serial.Add(1))
	var payloads []string
	for i := range n {
		payloads = append(payloads, sealed(id, "temp", i, 20))
	}
	before := s.counts()
	defer func() {
		if t.Failed() || missed != "" {
			t.Logf("counters before and after: %v, %v; %v", before, s.counts(), s.mapsctl("functions"))
		}
	}()
	if err := b.publish(t, s.lab, id, "sensors/"+id+"/temp", qos, payloads); err != nil {
		t.Fatal(err)
	}
	r.once(t, payloads)
	after := s.counts()
	taken, _ := share(before, after)
	kept := after["tc_device_in/kept"] - before["tc_device_in/kept"]
	t.Logf("the kernel took %d of %d messages; %d were cut by the MSS and put together", taken, n, kept)
	if taken < n-n*5/100 {
		return fmt.Sprintf("the kernel took %d of %d messages, twice of three times", taken, n)
	}
	return ""
}
