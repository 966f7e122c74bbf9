package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/config"
	"eproxy/internal/request"
)

// text is a string of MQTT.
func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// propertiesOf are a message's properties as they are in its PUBLISH.
func propertiesOf(m *request.Message) []byte {
	var b []byte
	if m.PayloadFormat > 0 {
		b = append(b, 0x01, m.PayloadFormat)
	}
	if m.MessageExpiry > 0 {
		b = binary.BigEndian.AppendUint32(append(b, 0x02), m.MessageExpiry)
	}
	if m.ContentType != "" {
		b = text(append(b, 0x03), m.ContentType)
	}
	for _, p := range m.UserProperties {
		b = text(text(append(b, 0x26), p.Name), p.Value)
	}
	return b
}

// publish5 is a PUBLISH of MQTT 5 with these properties.
func publish5(m *request.Message, properties []byte) []byte {
	head := binary.AppendUvarint(nil, uint64(len(properties))) // the same code as MQTT's lengths
	return publish(m.Topic, m.QoS, m.PacketID, string(head)+string(properties)+string(m.Payload))
}

func propertiesFunction(t testing.TB, contentType string) *config.Function {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		t.Fatal(err)
	}
	return &config.Function{URL: u, ContentType: contentType, Headers: map[string]string{"X-Team": "edge"}}
}

func (r *rig) properties(fn *config.Function) {
	v := EproxyFunction{PodCount: 1}
	v.PrefixLen = uint32(copy(v.Prefix[:], request.Prefix(fn)))
	at, n := request.DefaultType(fn)
	v.ContentAt, v.ContentLen = uint32(at), uint32(n)
	r.put(r.objs.Functions, uint32(0), &v)
	r.device(func(d *EproxyDevice) { d.Version = 5 })
}

func user(pairs ...string) (p []request.UserProperty) {
	for i := 0; i < len(pairs); i += 2 {
		p = append(p, request.UserProperty{Name: pairs[i], Value: pairs[i+1]})
	}
	return p
}

// TestPropertiesSameBytes: what MQTT 5 properties become in a request is the same on both paths.
func TestPropertiesSameBytes(t *testing.T) {
	messages := []request.Message{
		{},
		{ContentType: "application/json"},
		{PayloadFormat: 1},
		{ContentType: "a", PayloadFormat: 1, MessageExpiry: 60, UserProperties: user("a", "b", "a", "", "!#$%&'*+-.^_`|~09azAZ", " x ", "Host", "~evil\" ")},
		{ContentType: strings.Repeat("t", 253)},
		{UserProperties: user(strings.Repeat("n", 64), strings.Repeat("v", 187))},
		{UserProperties: user("Content-Length", "0", "ce-id", "x", "trace", "1", "tracepa", "2")},
	}
	for _, expiry := range []uint32{1, 9, 10, 99, 100, 12345, 999_999_999, 1_000_000_000, 4_000_000_000} {
		messages = append(messages, request.Message{MessageExpiry: expiry})
	}
	random := rand.New(rand.NewPCG(16, 2))
	for range 300 {
		messages = append(messages, randomProperties(random))
	}
	for _, hook := range []string{"xdp", "tc"} {
		for _, contentType := range []string{"", "application/cbor"} {
			t.Run(fmt.Sprintf("%s/%q", hook, contentType), func(t *testing.T) {
				for i := range messages {
					m := messages[i]
					r := newRig(t, false)
					propertiesTaken(t, r, hook, propertiesFunction(t, contentType), &m)
				}
			})
		}
	}
}

func randomProperties(r *rand.Rand) (m request.Message) {
	printable := func(most int) string {
		b := make([]byte, r.IntN(most))
		for i := range b {
			b[i] = byte(' ' + r.IntN(0x7f-' '))
		}
		return string(b)
	}
	m.ContentType = printable(40)
	m.PayloadFormat = byte(r.IntN(2))
	m.MessageExpiry = uint32(r.IntN(2) * r.IntN(100_000))
	for range r.IntN(5) {
		m.UserProperties = append(m.UserProperties, user(strings.Repeat("n", 1+r.IntN(12)), printable(30))...)
	}
	return m
}

// takeProgram is the program of a hook, and what it returns for a message that it takes.
func (r *rig) takeProgram(hook string) (prog *ebpf.Program, h EproxyHook, taken uint32) {
	if hook == "xdp" {
		return r.objs.XdpDevice, EproxyHookHOOK_XDP_DEVICE, xdpRedirect
	}
	return r.objs.TcDeviceIn, EproxyHookHOOK_TC_DEVICE_IN, tcRedirect
}

func propertiesTaken(t *testing.T, r *rig, hook string, fn *config.Function, m *request.Message) {
	t.Helper()
	r.properties(fn)
	m.ClientID, m.Topic, m.QoS, m.PacketID, m.Payload = "dev-1", "sensors/a/temp", 1, 7, []byte("21.5")
	if m.MessageExpiry > 0 {
		m.Expires = time.Now().Add(time.Duration(m.MessageExpiry) * time.Second)
	}
	want := request.Build(nil, fn, m, "0123456789ab00000001")
	pub := publish5(m, propertiesOf(m))
	prog, h, taken := r.takeProgram(hook)
	ret, out := r.run(prog, r.fromDevice(devISS, "PA", pub))
	if hook == "xdp" && len(want) > len(pub)+216 {
		if r.reason(h, EproxyReasonREASON_HEADROOM) != 1 {
			t.Errorf("%+v: verdict %d, counters %v; want it left to TC", m, ret, r.allReasons())
		}
		return
	}
	if ret != taken {
		t.Fatalf("%+v: verdict %d, counters %v", m, ret, r.allReasons())
	}
	if got := checkSegment(t, out).Payload; !bytes.Equal(got, want) {
		t.Errorf("request\n%q\nwant\n%q", got, want)
	}
}

// TestPropertiesRefused: what the kernel path writes no header for is the fallback's, by name.
func TestPropertiesRefused(t *testing.T) {
	one := func(m request.Message) []byte { return propertiesOf(&m) }
	pair := func(name, value string) []byte { return one(request.Message{UserProperties: user(name, value)}) }
	for name, c := range map[string]struct {
		properties []byte
		why        EproxyReason
	}{
		"response topic":         {text([]byte{0x08}, "a"), EproxyReasonREASON_PROPERTIES},
		"correlation data":       {text([]byte{0x09}, "a"), EproxyReasonREASON_PROPERTIES},
		"subscription id":        {[]byte{0x0b, 1}, EproxyReasonREASON_PROPERTIES},
		"alias":                  {[]byte{0x23, 0, 1}, EproxyReasonREASON_ALIAS},
		"alias 0":                {[]byte{0x23, 0, 0}, EproxyReasonREASON_PROPERTIES},
		"alias above the most":   {[]byte{0x23, 0, 17}, EproxyReasonREASON_PROPERTIES},
		"alias beyond a byte":    {[]byte{0x23, 1, 1}, EproxyReasonREASON_PROPERTIES},
		"two aliases":            {[]byte{0x23, 0, 1, 0x23, 0, 1}, EproxyReasonREASON_PROPERTIES},
		"cut alias":              {[]byte{0x23, 0}, EproxyReasonREASON_PROPERTIES},
		"format 2":               {[]byte{1, 2}, EproxyReasonREASON_PROPERTIES},
		"twice":                  {[]byte{1, 1, 1, 1}, EproxyReasonREASON_PROPERTIES},
		"unknown":                {[]byte{0x04, 1}, EproxyReasonREASON_PROPERTIES},
		"cut expiry":             {[]byte{2, 0, 0, 1}, EproxyReasonREASON_PROPERTIES},
		"cut format":             {[]byte{1}, EproxyReasonREASON_PROPERTIES},
		"cut type":               {[]byte{3, 0, 2, 'a'}, EproxyReasonREASON_PROPERTIES},
		"cut name":               {[]byte{0x26, 0, 2, 'a'}, EproxyReasonREASON_PROPERTIES},
		"cut value":              {[]byte{0x26, 0, 1, 'a', 0}, EproxyReasonREASON_PROPERTIES},
		"five user properties":   {one(request.Message{UserProperties: user("a", "", "b", "", "c", "", "d", "", "e", "")}), EproxyReasonREASON_PROPERTIES_LONG},
		"long type":              {one(request.Message{ContentType: strings.Repeat("x", 254)}), EproxyReasonREASON_PROPERTIES_LONG},
		"long name":              {pair(strings.Repeat("n", 65), ""), EproxyReasonREASON_PROPERTIES_LONG},
		"very long":              {pair("n", strings.Repeat("v", 1000)), EproxyReasonREASON_PROPERTIES_LONG},
		"no name":                {pair("", "x"), EproxyReasonREASON_PROPERTY_TEXT},
		"name with a colon":      {pair("a:", "x"), EproxyReasonREASON_PROPERTY_TEXT},
		"name with a line's end": {pair("a\r\nb", "x"), EproxyReasonREASON_PROPERTY_TEXT},
		"name beyond ASCII":      {pair("\u00e4", "x"), EproxyReasonREASON_PROPERTY_TEXT},
		"value beyond ASCII":     {pair("a", "1234567\u00e4"), EproxyReasonREASON_PROPERTY_TEXT},
		"value with a line":      {pair("a", "x\r\nX-Evil: 1"), EproxyReasonREASON_PROPERTY_TEXT},
		"value with NUL":         {pair("a", "12345678\x00"), EproxyReasonREASON_PROPERTY_TEXT},
		"value with DEL":         {pair("a", "\x7f"), EproxyReasonREASON_PROPERTY_TEXT},
		"type with a line":       {one(request.Message{ContentType: "a\r\nb"}), EproxyReasonREASON_PROPERTY_TEXT},
		"traceparent":            {pair("TraceParent", "00-1"), EproxyReasonREASON_PROPERTY_TEXT},
		"tracestate":             {pair("tracestate", "a=b"), EproxyReasonREASON_PROPERTY_TEXT},
	} {
		for _, hook := range []string{"xdp", "tc"} {
			t.Run(hook+"/"+name, func(t *testing.T) {
				r := newRig(t, false)
				r.properties(propertiesFunction(t, ""))
				prog, h, taken := r.takeProgram(hook)
				m := request.Message{Topic: "sensors/a/temp", QoS: 1, PacketID: 7, Payload: []byte("21.5")}
				ret, _ := r.run(prog, r.fromDevice(devISS, "PA", publish5(&m, c.properties)))
				if ret == taken || r.reason(h, c.why) != 1 {
					t.Errorf("verdict %d, counters %v", ret, r.allReasons())
				}
			})
		}
	}
}

// TestPlainBehindProperties: what one message has brought along is not in the next one's request.
func TestPlainBehindProperties(t *testing.T) {
	r := newRig(t, false)
	fn := propertiesFunction(t, "application/cbor")
	m := &request.Message{ContentType: "text/csv", MessageExpiry: 5, UserProperties: user("a", "b")}
	propertiesTaken(t, r, "tc", fn, m)
	size := len(request.Build(nil, fn, m, strings.Repeat("0", 20)))
	r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+uint32(size), "PA", []byte(okResponse)))
	next := &request.Message{ClientID: "dev-1", Topic: "sensors/a/temp", QoS: 1, PacketID: 8, Payload: []byte("x")}
	_, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+uint32(len(publish5(m, propertiesOf(m)))), "PA", publish5(next, nil)))
	if got, want := checkSegment(t, out).Payload, request.Build(nil, fn, next, "0123456789ab00000002"); !bytes.Equal(got, want) {
		t.Errorf("request\n%q\nwant\n%q", got, want)
	}
}

// BenchmarkProperties is BenchmarkMessage with MQTT 5 properties of each kind, and with a topic alias in place of a topic.
func BenchmarkProperties(b *testing.B) {
	both, tc := []string{"xdp", "tc"}, []string{"tc"} // tc: the request takes more than XDP's head room
	for _, c := range []struct {
		name  string
		hooks []string
		m     request.Message
	}{
		{"none", both, request.Message{}},
		{"format", tc, request.Message{PayloadFormat: 1}},
		{"type", both, request.Message{ContentType: "application/json"}},
		{"expiry", both, request.Message{MessageExpiry: 3600}},
		{"user=1", both, request.Message{UserProperties: user("region", "eu-west")}},
		{"user=4", tc, request.Message{UserProperties: user("region", "eu-west", "model", "x-1200", "batch", "17", "unit", "celsius")}},
		{"alias", both, request.Message{}},
		{"all", tc, request.Message{PayloadFormat: 1, ContentType: "application/json", MessageExpiry: 3600,
			UserProperties: user("region", "eu-west", "model", "x-1200", "batch", "17", "unit", "celsius")}},
	} {
		for _, hook := range c.hooks {
			b.Run(c.name+"/"+hook, func(b *testing.B) { benchmarkProperties(b, hook, c.m, c.name == "alias") })
		}
	}
}

func benchmarkProperties(b *testing.B, hook string, m request.Message, byAlias bool) {
	r := newRig(b, false)
	fn := propertiesFunction(b, "")
	fn.Headers = nil
	r.properties(fn)
	prog, _, _ := r.takeProgram(hook)
	m.ClientID, m.Topic, m.QoS, m.PacketID, m.Payload = "dev-1", "sensors/a/temp", 1, 7, []byte(fmt.Sprintf("%064d", 1))
	if m.MessageExpiry > 0 {
		m.Expires = time.Now().Add(time.Duration(m.MessageExpiry) * time.Second)
	}
	if byAlias {
		r.learnt(EproxyAliasArgs{Alias: 1}, m.Topic)
	}
	size := len(request.Build(nil, fn, &m, strings.Repeat("0", 20)))
	pubs, responses := conversation(r, b.N, func(i int) ([]byte, int) {
		m.PacketID = uint16(i%60000 + 1)
		if byAlias {
			bare := m
			bare.Topic = ""
			return publish5(&bare, alias(1)), size
		}
		return publish5(&m, propertiesOf(&m)), size
	})
	converse(b, r, prog, pubs, responses)
}
