package request

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"eproxy/internal/config"
)

func eventFunction(from bool) *config.Function {
	u, _ := url.Parse("http://f.local/x")
	return &config.Function{Name: "f", URL: u, CloudEvents: config.CloudEvents{FromPublisher: from}}
}

// TestEvent: the payload is data as its type says, and nobody says for MQTT who sent it.
func TestEvent(t *testing.T) {
	for name, c := range map[string]struct {
		m    Message
		want map[string]string // as JSON; empty: absent
	}{
		"json":    {Message{Payload: []byte(`{"a": 1}`), ContentType: "application/json"}, map[string]string{"data": `{"a":1}`, "data_base64": "", "datacontenttype": `"application/json"`}},
		"untyped": {Message{Payload: []byte(`21.5`)}, map[string]string{"data": `21.5`, "datacontenttype": ""}},
		"broken":  {Message{Payload: []byte(`{`)}, map[string]string{"data": "", "data_base64": `"ew=="`}},
		"text":    {Message{Payload: []byte("grün"), PayloadFormat: 1}, map[string]string{"data": `"grün"`}},
		"bytes":   {Message{Payload: []byte{0xff}, ContentType: "text/plain"}, map[string]string{"data_base64": `"/w=="`}},
		"empty":   {Message{}, map[string]string{"data": "", "data_base64": ""}},
		"who": {Message{ClientID: "a b", Username: "u", QoS: 1, Topic: "t/x", UserProperties: []UserProperty{{"ce-mqttusername", "root"}, {"type", "T"}, {"Other", "o"}}},
			map[string]string{"mqttusername": `"u"`, "mqttclientid": `"a b"`, "source": `"eproxy/a%20b"`, "type": `"T"`, "mqttqos": "1", "subject": `"t/x"`, "id": `"7"`,
				"mqttuserproperties": `"[[\"Other\",\"o\"]]"`}},
	} {
		c.m.Version = 5
		var e map[string]json.RawMessage
		if err := json.Unmarshal(Event(eventFunction(true), &c.m, "7"), &e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for attr, want := range c.want {
			if got := string(e[attr]); got != want {
				t.Errorf("%s: %s is %s, want %s", name, attr, got, want)
			}
		}
	}
}

// TestEventFromPublisher: an event in JSON becomes a binary one with its own attributes, where the function lets it.
func TestEventFromPublisher(t *testing.T) {
	const event = `{"specversion":"1.0","id":"e1","source":"//pump","type":"com.example.reading","subject":"s","time":"2026-11-29T00:00:00Z","tenant":"x","n":3,"ok":true,"data":{"v":1}}`
	build := func(from bool, m Message) string { return string(Build(nil, eventFunction(from), &m, "own")) }
	got := build(true, Message{Version: 4, ClientID: "c", Topic: "t", Payload: []byte(event)})
	for _, want := range []string{"ce-id: e1\r\n", "ce-source: //pump\r\n", "ce-type: com.example.reading\r\n", "ce-subject: s\r\n", "ce-time: 2026-11-29T00:00:00Z\r\n", "ce-tenant: x\r\n", "ce-n: 3\r\n",
		"ce-ok: true\r\n", "X-Mqtt-Client-Id: c\r\n", "Content-Type: application/json\r\n", "Content-Length: 7\r\n\r\n{\"v\":1}"} {
		if !strings.Contains(got, want) {
			t.Errorf("without %q:\n%s", want, got)
		}
	}
	if strings.Count(got, "ce-specversion") != 1 || strings.Count(got, "ce-id") != 1 {
		t.Errorf("attributes twice:\n%s", got)
	}
	for name, m := range map[string]Message{
		"not asked for":      {Version: 5, Payload: []byte(event)},
		"another type":       {Version: 5, ContentType: "application/json", Payload: []byte(event)},
		"no id":              {Version: 4, Payload: []byte(strings.Replace(event, `"id"`, `"ix"`, 1))},
		"another version":    {Version: 4, Payload: []byte(strings.Replace(event, `"1.0"`, `"2.0"`, 1))},
		"no event":           {Version: 4, Payload: []byte(`{"v":1}`)},
		"no name":            {Version: 4, Payload: []byte(strings.Replace(event, `"tenant"`, `"ten-ant"`, 1))},
		"header injection":   {Version: 4, Payload: []byte(strings.Replace(event, `"x"`, `"x\r\ny: z"`, 1))},
		"an attribute of {}": {Version: 4, Payload: []byte(strings.Replace(event, `"x"`, `{}`, 1))},
		"no time":            {Version: 4, Payload: []byte(strings.Replace(event, `2026-11`, `now`, 1))},
		"data twice":         {Version: 4, Payload: []byte(strings.Replace(event, `"n":3`, `"data_base64":"eA=="`, 1))},
	} {
		if got := build(true, m); !strings.Contains(got, "ce-id: own\r\n") || !strings.HasSuffix(got, string(m.Payload)) {
			t.Errorf("%s: changed:\n%s", name, got)
		}
	}
	for name, m := range map[string]Message{"MQTT 5": {Version: 5, ContentType: "application/cloudevents+json; charset=utf-8", Payload: []byte(event)}} {
		if got := build(true, m); !strings.Contains(got, "ce-id: e1\r\n") {
			t.Errorf("%s: not read:\n%s", name, got)
		}
	}
	if got := build(false, Message{Version: 4, Payload: []byte(event)}); !strings.Contains(got, "ce-id: own\r\n") {
		t.Errorf("read without from_publisher:\n%s", got)
	}
	text := `{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":"a b"}`
	if got := build(true, Message{Version: 3, Payload: []byte(text)}); !strings.HasSuffix(got, "\r\n\r\na b") || !strings.Contains(got, "Content-Type: text/plain\r\n") {
		t.Errorf("text:\n%s", got)
	}
}

// TestStructured: the request is the event.
func TestStructured(t *testing.T) {
	fn := eventFunction(false)
	fn.CloudEvents.Structured = true
	head, body, _ := strings.Cut(string(Build(nil, fn, &Message{ClientID: "c", Topic: "t", Payload: []byte("1")}, "7")), "\r\n\r\n")
	if !json.Valid([]byte(body)) || !strings.Contains(body, `"data":1`) || !strings.Contains(head, "Content-Type: application/cloudevents+json") || strings.Contains(head, "ce-") {
		t.Errorf("%s\n\n%s", head, body)
	}
}
