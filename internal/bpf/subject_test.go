package bpf

import (
	"net/url"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// TestSubjects: ce-subject is the topic, percent-encoded, whether the connection's entry
// remembers the topic, could remember it, or cannot: it is longer than there is room for.
func TestSubjects(t *testing.T) {
	for name, topic := range map[string]string{
		"plain":                         "sensors/a/temp",
		"as long as is remembered":      "sensors/" + strings.Repeat("x", 35) + "/temp",
		"longer":                        "sensors/" + strings.Repeat("x", 36) + "/temp",
		"to be encoded":                 `sensors/50 % "ä"/temp`,
		"to be encoded, nearly as long": "sensors/" + strings.Repeat("ä", 17) + "/temp",
		"to be encoded, and longer":     "sensors/" + strings.Repeat("ä", 18) + "/temp",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.subjects(topic, r.objs.TcDeviceIn)
			if len(topic) == len(url.PathEscape(topic))-2*strings.Count(topic, "/") { // XDP has no room for what grows much
				r.fill()
				r.subjects(topic, r.objs.XdpDevice)
			}
		})
	}
}

// subjects sends three messages of a topic: the later ones find what the first one has left.
func (r *rig) subjects(topic string, prog *ebpf.Program) {
	r.t.Helper()
	want := rigPrefix + "dev-1\r\nce-subject: " + strings.ReplaceAll(url.PathEscape(topic), "%2F", "/") + "\r\nce-id: "
	seq, pack, pseq := uint32(devISS), uint32(sltISS), uint32(podISS)
	for i := range 3 {
		pub := publish(topic, 0, 0, "x")
		_, out := r.run(prog, r.fromDevice(seq, "PA", pub))
		request := string(checkSegment(r.t.(*testing.T), out).Payload)
		if !strings.HasPrefix(request, want) {
			r.t.Fatalf("message %d: %q: %v", i, request, r.allReasons())
		}
		seq += uint32(len(pub))
		pack += uint32(len(request))
		r.run(r.objs.TcPodIn, r.fromPod(pseq, pack, "PA", []byte(okResponse)))
		pseq += uint32(len(okResponse))
	}
	if r.run(prog, r.fromDevice(seq, "PA", publish(topic[:len(topic)-1]+"q", 0, 0, "x"))); r.slot().Head != r.slot().Tail {
		r.t.Errorf("a topic that no route has was taken for %s", topic)
	}
}
