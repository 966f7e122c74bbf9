package knative

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// ContentType is what an autoscaler that scrapes wants, to the letter.
const ContentType = "application/protobuf"

// MaxStat is how many bytes of a Stat the autoscaler reads.
const MaxStat = 336

// maxPodName is how long the name in a Stat may be: what is left by its six numbers and
// three bytes in front of the name.
const maxPodName = 256

// Stat is the message of pkg/autoscaler/metrics/stat.proto: what a pod, or a proxy in front
// of pods, had to do in a second. Its timestamp is the reader's to set.
type Stat struct {
	PodName            string  // who says so
	Concurrency        float64 // requests at a time, on average; those that wait count
	ProxiedConcurrency float64 // of those, what another one tells of
	Requests           float64 // that came in this second
	ProxiedRequests    float64 // of those, what another one tells of
	Uptime             float64 // of PodName, seconds
}

// Append appends the message to b. It has at most MaxStat bytes: a longer name is cut.
func (s Stat) Append(b []byte) []byte {
	name := s.PodName[:min(len(s.PodName), maxPodName)]
	if name != "" {
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendString(b, name)
	}
	for i, v := range []float64{s.Concurrency, s.ProxiedConcurrency, s.Requests, s.ProxiedRequests, s.Uptime} {
		if v != 0 {
			b = protowire.AppendTag(b, protowire.Number(2+i), protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, math.Float64bits(v))
		}
	}
	return b
}

// Message is a Stat with the revision that it is about.
type Message struct {
	Namespace, Revision string
	Stat                Stat
}

// AppendMessages appends a WireStatMessages to b.
func AppendMessages(b []byte, ms []Message) []byte {
	var inner, stat []byte
	for _, m := range ms {
		inner = protowire.AppendTag(inner[:0], 1, protowire.BytesType)
		inner = protowire.AppendString(inner, m.Namespace)
		inner = protowire.AppendTag(inner, 2, protowire.BytesType)
		inner = protowire.AppendString(inner, m.Revision)
		stat = m.Stat.Append(stat[:0])
		inner = protowire.AppendTag(inner, 3, protowire.BytesType)
		inner = protowire.AppendBytes(inner, stat)
		b = protowire.AppendTag(b, 1, protowire.BytesType)
		b = protowire.AppendBytes(b, inner)
	}
	return b
}
