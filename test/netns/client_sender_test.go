package netns

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/crypto/bcrypt"

	"eproxy/test/lib/lab"
)

// senderConfig is a function that says itself who sent a message, and one that lets
// publishers say it.
const senderConfig = `auth:
  allow_anonymous: true
  users: [{username: '%[3]s', password_hash: '%[4]s'}]
functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
  - name: hum
    url: http://hum.local/ingest
    pods: ["%[1]s", "%[2]s"]
    cloudevents: {from_publisher: true}
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: sensors/+/hum
    function: hum
`

// posing are user properties by which a publisher may try to be somebody else.
var posing = []string{"source", "Source", "ce-source", "CE-SOURCE", "id", "ce-id", "type", "ce-type", "subject", "time", "ce-tenant",
	"X-Mqtt-Client-Id", "x-mqtt-client-id", "X-Mqtt-Username", "name", "Host", "X-Mqtt-Qos"}

// login connects with a user name and a password: MQTT 3.1.1.
func (c *rawConn) login(id, user, password string) {
	c.t.Helper()
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0xc2, 0, 0}, field(id)...)
	body = append(append(body, field(user)...), field(password)...)
	c.write(append(append([]byte{0x10}, remaining(len(body))...), body...))
	c.read([]byte{0x20, 2, 0, 0})
}

// field is a string of the MQTT protocol.
func field(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// publishV5 publishes one message with QoS 1 as a client of MQTT 5.
func publishV5(t *testing.T, l *lab.Lab, id, user, password, topic string, p *paho.PublishProperties) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
	defer cancel()
	conn, err := l.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true,
		Username: user, UsernameFlag: user != "", Password: []byte(password), PasswordFlag: password != ""}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("x"), Properties: p}); err != nil {
		t.Fatal(err)
	}
	_ = c.Disconnect(&paho.Disconnect{})
}

// flows are the connections that the kernel path knows; none where there is no such path.
func (s *system) flows() []map[string]any {
	if s.mode == "fallback" {
		return nil
	}
	return s.mapsctl("flows")
}

// TestSenderSameOnAllPaths: the headers that say who sent a message are the same on all paths, and
// no publisher changes them.
func TestSenderSameOnAllPaths(t *testing.T) {
	const id, user, password = `c "1%é`, `dév/"%`, "secret"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			config := fmt.Sprintf(senderConfig, "%[1]s", "%[2]s", strings.ReplaceAll(user, "%", "%%"), hash)
			s := start(t, l, mode, podConfig(config, false))
			latest := func(n int) map[string]string {
				t.Helper()
				got := r.wait(t, n)
				if len(got) != n {
					t.Fatalf("%d requests, want %d", len(got), n)
				}
				h := maps.Clone(got[n-1].headers)
				delete(h, "ce-id")
				return h
			}
			sent := 0
			for function, clientID := range map[string]string{"temp": "", "hum": "c%20%221%25%C3%A9"} {
				topic := "sensors/a/" + function
				check := func(what, username string) map[string]string {
					t.Helper()
					sent++
					h := latest(sent)
					if h["ce-source"] != "eproxy/c%20%221%25%C3%A9" || h["x-mqtt-username"] != username || h["x-mqtt-client-id"] != clientID {
						t.Errorf("%s, function %s: %v", what, function, h)
					}
					return h
				}
				anonymous := rawConnect(t, l, id)
				anonymous.publish(topic, 1, "x")
				check("MQTT 3.1.1, anonymous", "")
				known := rawDial(t, l)
				known.login(id, user, password)
				known.publish(topic, 1, "x")
				check("MQTT 3.1.1", "d%C3%A9v/%22%25")
				for _, row := range s.flows() {
					if row["client"] != "c%20%221%25%C3%A9" {
						t.Errorf("mapsctl flows shows client %q", row["client"])
					}
				}
				publishV5(t, l, id, "", "", topic, nil)
				check("MQTT 5, anonymous", "")
				publishV5(t, l, id, user, password, topic, nil)
				plain := check("MQTT 5", "d%C3%A9v/%22%25")
				for _, name := range posing {
					publishV5(t, l, id, user, password, topic, &paho.PublishProperties{User: paho.UserProperties{{Key: name, Value: "mallory"}}})
					sent++
					for h, v := range latest(sent) {
						theirs := strings.HasPrefix(h, "x-mqtt-user-") || function == "hum" && strings.HasPrefix(h, "ce-")
						if !theirs && v != plain[h] {
							t.Errorf("function %s, property %q makes %s %q", function, name, h, v)
						}
					}
				}
			}
			if out, err := l.Run(context.Background(), lab.Dev, "mosquitto_pub", "-h", lab.NodeV4.String(), "-V", "mqttv5", "-q", "1", "-i", "m",
				"-u", user, "-P", password, "-t", "sensors/m/temp", "-m", "x", "-D", "PUBLISH", "user-property", "ce-source", "mallory"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if h := latest(sent + 1); h["ce-source"] != "eproxy/m" || h["x-mqtt-user-ce-source"] != "mallory" || h["x-mqtt-username"] != "d%C3%A9v/%22%25" {
				t.Errorf("mosquitto_pub: %v", h)
			}
			if mode != "fallback" {
				counts := s.counts()
				taken := counts["xdp_device/taken"] + counts["tc_device_in/taken"]
				// Those to hum, which reads events out of payloads (from_publisher), are left to userspace.
				if taken != 4+len(posing)+1 || counts["tc_device_in/route_fallback"] != 4+len(posing) {
					t.Errorf("the kernel took %d messages, want %d, and left %d to a function that it does not serve, want %d: %v",
						taken, 4+len(posing)+1, counts["tc_device_in/route_fallback"], 4+len(posing), counts)
				}
			}
		})
	}
}

// TestLongSenderIsCounted: a client whose names the kernel path cannot hold is served by the fallback, and
// that is counted.
func TestLongSenderIsCounted(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", podConfig(routeConfig, false))
	id := strings.Repeat("c", 200)
	c := rawDial(t, l)
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, field(id)...)
	c.write(append(append([]byte{0x10}, remaining(len(body))...), body...))
	c.read([]byte{0x20, 2, 0, 0})
	c.publish("sensors/a/temp", 1, "x")
	if got := r.wait(t, 1); got[0].headers["ce-source"] != "eproxy/"+id {
		t.Errorf("%v", got[0].headers)
	}
	if counts := s.counts(); counts["tc_device_in/too_large"] != 1 {
		t.Errorf("%v", counts)
	}

}
