package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/lab"
)

// actions is everything that clients do.
func actions() []action {
	out := mosquittoActions()
	for _, level := range []uint{3, 4} {
		out = append(out, pahoActions(level)...)
	}
	out = append(out, paho5Actions()...)
	for _, version := range []int{3, 4, 5} {
		out = append(out, npmActions(version)...)
	}
	return out
}

// payloads are of sizes that are treated differently: nothing, within a segment, around its end, several.
func payloads() map[string][]byte {
	out := map[string][]byte{"every byte": everyByte(), "UTF-8": []byte("grüße ☃\r\n\r\n")}
	for _, n := range []int{0, 1, 127, 1000, 1400, 1460, 1600, 5000, 100_000} {
		out[fmt.Sprintf("%d bytes", n)] = bytes.Repeat([]byte("p"), n)
	}
	return out
}

// topics are those of all functions; and with what must be encoded.
func (a *actor) topics() []string {
	out := []string{"plain/" + a.id + " ü%\"\\x/x", "fan/" + a.id + "/y"}
	for _, f := range []string{"plain", "dressed", "own", "structured", "ordered", "both"} {
		out = append(out, a.topic(f))
	}
	return out
}

// pahoActions are what paho.mqtt.golang does, of MQTT 3.1 or 3.1.1.
func pahoActions(level uint) []action {
	name := map[uint]string{3: "paho 3.1", 4: "paho 3.1.1"}[level]
	var out []action
	add := func(what string, n int, change func(a *actor, o *mqtt.ClientOptions), do func(*actor, mqtt.Client) error) {
		out = append(out, action{client: name, name: what, n: n, do: func(a *actor) error {
			o := mqtt.NewClientOptions().AddBroker("tcp://" + a.addr()).SetClientID(a.id).SetProtocolVersion(level).SetAutoReconnect(false)
			var raw net.Conn
			o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (c net.Conn, err error) {
				raw, err = a.lab.Dial(context.Background(), lab.Dev, a.addr())
				return raw, err
			})
			if change != nil {
				change(a, o)
			}
			c := mqtt.NewClient(o)
			if err := done(c.Connect()); err != nil {
				return err
			}
			defer c.Disconnect(250)
			err := do(a, c)
			if o.WillEnabled && err == nil {
				err = raw.Close()
			}
			return err
		}})
	}
	for size, p := range payloads() {
		add(size, 3, nil, func(a *actor, c mqtt.Client) error {
			for q := range byte(3) {
				if err := done(c.Publish(a.topic("plain"), q, false, p)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for q := range byte(3) {
		add(fmt.Sprintf("to all functions, QoS %d", q), 8, nil, func(a *actor, c mqtt.Client) error {
			for _, topic := range a.topics() {
				if err := done(c.Publish(topic, q, false, "x")); err != nil {
					return err
				}
			}
			return nil
		})
		add(fmt.Sprintf("to two functions, QoS %d", q), 2, nil, func(a *actor, c mqtt.Client) error {
			return done(c.Publish(a.topic("fan"), q, true, "x"))
		})
		add(fmt.Sprintf("50 at once, QoS %d", q), 50, nil, func(a *actor, c mqtt.Client) error {
			var all []mqtt.Token
			for i := range 50 {
				all = append(all, c.Publish(a.topic("plain"), q, false, fmt.Sprintf("%02d", i)))
			}
			for _, tok := range all {
				if err := done(tok); err != nil {
					return err
				}
			}
			return nil
		})
		add(fmt.Sprintf("will of QoS %d", q), 2, func(a *actor, o *mqtt.ClientOptions) {
			o.SetWill(a.topic("dressed"), "gone", q, q == 1)
		}, one)
	}
	add("clean session off", 1, func(_ *actor, o *mqtt.ClientOptions) { o.SetCleanSession(false) }, one)
	add("user and password", 1, func(_ *actor, o *mqtt.ClientOptions) { o.SetUsername("dev").SetPassword("secret") }, one)
	return out
}

// one publishes one message.
func one(a *actor, c mqtt.Client) error { return done(c.Publish(a.topic("plain"), 1, false, "x")) }

func done(tok mqtt.Token) error {
	if !tok.WaitTimeout(clientTimeout) {
		return context.DeadlineExceeded
	}
	return tok.Error()
}

// properties5 are what a message of MQTT 5 may have, by name.
func properties5() map[string]*paho.PublishProperties {
	format, expiry, alias := byte(1), uint32(3600), uint16(2)
	user := func(kv ...string) (out paho.UserProperties) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, paho.UserProperty{Key: kv[i], Value: kv[i+1]})
		}
		return out
	}
	return map[string]*paho.PublishProperties{
		"none": nil, "empty": {}, "content type": {ContentType: "application/json; charset=utf-8"}, "long content type": {ContentType: "a/" + strings.Repeat("b", 300)},
		"payload format": {PayloadFormat: &format}, "expiry": {MessageExpiry: &expiry}, "alias": {TopicAlias: &alias},
		"response topic": {ResponseTopic: "answers/x", CorrelationData: everyByte()}, "correlation data": {CorrelationData: []byte("c")},
		"user property": {User: user("color", "red")}, "the same twice": {User: user("color", "red", "color", "blue", "Color", "green")},
		"empty user property": {User: user("", "", "k", "", "", "v")}, "no token": {User: user("a b", "c", "ä", "b", "a:b", "c")},
		"UTF-8 value": {User: user("k", "grüße ☃ \"%")}, "many": {User: user(strings.Split(strings.Repeat("k,v,", 40)+"k,v", ",")...)},
		"long": {User: user("k", strings.Repeat("v", 1000))}, "posing": {User: user("ce-source", "m", "source", "m", "Host", "m", "x-mqtt-username", "m", "Content-Length", "1")},
		"trace": {User: user("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate", "a=1")},
		"all":   {ContentType: "text/x", PayloadFormat: &format, MessageExpiry: &expiry, TopicAlias: &alias, User: user("a", "1", "b", "2")},
	}
}

// paho5Actions are what paho.golang does, of MQTT 5.
func paho5Actions() []action {
	var out []action
	add := func(what string, n int, connect *paho.Connect, do func(*actor, *paho.Client) error) {
		out = append(out, action{client: "paho 5", name: what, n: n, do: func(a *actor) error {
			ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
			defer cancel()
			conn, err := a.lab.Dial(ctx, lab.Dev, a.addr())
			if err != nil {
				return err
			}
			c := paho.NewClient(paho.ClientConfig{Conn: conn})
			hello := *connect
			hello.ClientID, hello.KeepAlive = a.id, 30
			if w := hello.WillMessage; w != nil {
				mine := *w
				mine.Topic = a.topic("dressed")
				hello.WillMessage = &mine
			}
			if _, err := c.Connect(ctx, &hello); err != nil {
				return err
			}
			if err := do(a, c); err != nil || hello.WillMessage != nil {
				_ = conn.Close()
				return err
			}
			return c.Disconnect(&paho.Disconnect{})
		}})
	}
	clean := &paho.Connect{CleanStart: true}
	publish := func(c *paho.Client, p *paho.Publish) error {
		ctx, cancel := context.WithTimeout(context.Background(), clientTimeout)
		defer cancel()
		_, err := c.Publish(ctx, p)
		return err
	}
	for name, p := range properties5() {
		add(name, 3*8, clean, func(a *actor, c *paho.Client) error {
			for q := range byte(3) {
				for _, topic := range a.topics() {
					if err := publish(c, &paho.Publish{Topic: topic, QoS: q, Payload: []byte("x"), Properties: p}); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	for size, payload := range payloads() {
		add(size, 3, clean, func(a *actor, c *paho.Client) error {
			for q := range byte(3) {
				if err := publish(c, &paho.Publish{Topic: a.topic("plain"), QoS: q, Payload: payload}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	add("topics by alias alone", 9, clean, func(a *actor, c *paho.Client) error {
		for i := range 9 {
			alias := uint16(i%3 + 1)
			p := &paho.Publish{QoS: byte(i % 3), Payload: []byte{'0' + byte(i)}, Properties: &paho.PublishProperties{TopicAlias: &alias}}
			if i < 3 {
				p.Topic = a.topic([]string{"plain", "dressed", "both"}[i])
			}
			if err := publish(c, p); err != nil {
				return err
			}
		}
		return nil
	})
	plain := func(a *actor, c *paho.Client) error {
		return publish(c, &paho.Publish{Topic: a.topic("plain"), QoS: 1, Payload: []byte("x")})
	}
	expiry, format := uint32(3600), byte(1)
	add("session that goes on", 1, &paho.Connect{Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}, plain)
	add("user and password", 1, &paho.Connect{CleanStart: true, UsernameFlag: true, Username: "dev", PasswordFlag: true, Password: []byte("secret")}, plain)
	for q := range byte(3) {
		add(fmt.Sprintf("will of QoS %d", q), 2, &paho.Connect{CleanStart: true, WillMessage: &paho.WillMessage{QoS: q, Retain: q == 2, Payload: []byte("gone")},
			WillProperties: &paho.WillProperties{ContentType: "text/x", PayloadFormat: &format, MessageExpiry: &expiry, User: paho.UserProperties{{Key: "k", Value: "v"}}}}, plain)
	}
	return out
}

// npmPublish is one message of actions.js.
type npmPublish struct {
	Topic   string         `json:"topic"`
	Payload []byte         `json:"payload"`
	Options map[string]any `json:"options"`
}

// npmActions are what the npm client does: of MQTT 3.1, 3.1.1 or 5.
func npmActions(version int) []action {
	var out []action
	add := func(what, url string, n int, connect map[string]any, publishes func(*actor) []npmPublish) {
		out = append(out, action{client: fmt.Sprintf("npm mqtt, protocol version %d", version), name: what, n: n, do: func(a *actor) error {
			options := map[string]any{"clientId": a.id, "protocolVersion": version}
			if version == 3 {
				options["protocolId"] = "MQIsdp"
			}
			for k, v := range connect {
				options[k] = v
			}
			if w, ok := options["will"].(npmPublish); ok {
				will := map[string]any{"topic": a.topic("dressed"), "payload": w.Payload}
				for k, v := range w.Options {
					will[k] = v
				}
				options["will"] = will
			}
			_, abrupt := options["will"]
			text, err := json.Marshal(map[string]any{"connect": options, "abrupt": abrupt, "publishes": publishes(a)})
			if err != nil {
				return err
			}
			return onDevice(a.lab, string(text), "env", "NODE_EXTRA_CA_CERTS="+a.ca.CA, "node", "node/actions.js", url)
		}})
	}
	host := lab.NodeV4.String()
	tcp := "mqtt://" + host + ":1883"
	each := func(options map[string]any) func(*actor) []npmPublish {
		return func(a *actor) (list []npmPublish) {
			for q := range 3 {
				for _, topic := range a.topics() {
					mine := map[string]any{"qos": q}
					for k, v := range options {
						mine[k] = v
					}
					list = append(list, npmPublish{topic, []byte("x"), mine})
				}
			}
			return list
		}
	}
	one := func(a *actor) []npmPublish {
		return []npmPublish{{a.topic("plain"), []byte("x"), map[string]any{"qos": 1}}}
	}
	add("all functions", tcp, 24, nil, each(nil))
	add("retained", tcp, 24, nil, each(map[string]any{"retain": true}))
	add("payloads", tcp, 3*len(payloads()), nil, func(a *actor) (list []npmPublish) {
		for _, p := range payloads() {
			for q := range 3 {
				list = append(list, npmPublish{a.topic("plain"), p, map[string]any{"qos": q}})
			}
		}
		return list
	})
	add("session that goes on", tcp, 1, map[string]any{"clean": false}, one)
	add("user and password", tcp, 1, map[string]any{"username": "dev", "password": "secret"}, one)
	add("TLS", "mqtts://"+host+":8883", 24, nil, each(nil))
	add("WebSocket", "ws://"+host+":8083/mqtt", 24, nil, each(nil))
	add("secure WebSocket", "wss://"+host+":8084/mqtt", 24, nil, each(nil))
	will := map[string]any{"qos": 1, "retain": true}
	if version == 5 {
		will["properties"] = map[string]any{"contentType": "text/x", "messageExpiryInterval": 3600, "userProperties": map[string]any{"k": "v"}}
	}
	add("will", tcp, 2, map[string]any{"will": npmPublish{Payload: []byte("gone"), Options: will}}, one)
	if version != 5 {
		add("DUP", tcp, 1, nil, func(a *actor) []npmPublish {
			return []npmPublish{{a.topic("plain"), []byte("x"), map[string]any{"qos": 1, "dup": true}}}
		})
		return out
	}
	for name, p := range map[string]map[string]any{
		"content type": {"contentType": "application/json"}, "payload format": {"payloadFormatIndicator": true}, "expiry": {"messageExpiryInterval": 3600},
		"response topic":  {"responseTopic": "answers/x", "correlationData": []byte("abc")},
		"user properties": {"userProperties": map[string]any{"k": "v", "l": []string{"1", "2"}}},
	} {
		add(name, tcp, 24, nil, each(map[string]any{"properties": p}))
	}
	add("aliases by itself", tcp, 24, map[string]any{"autoAssignTopicAlias": true}, each(nil))
	return out
}
