package keda

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of externalscaler.proto, of which a client's are read, and the server's written. They are
// few and small, and its generated code may be in a program only once, as KEDA's own in the tests.

// reference is a ScaledObjectRef, or a GetMetricsRequest with one.
type reference struct {
	name, namespace string
	metadata        map[string]string // of the trigger
}

// Bounds of a request: KEDA sends a trigger's metadata, which a person has written.
const (
	maxRequest  = 64 << 10
	maxMetadata = 64
)

var errFormat = errors.New("the message is not as externalscaler.proto has it")

// fields tells each field of a message that has bytes in it.
func fields(b []byte, field func(number protowire.Number, value []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errFormat
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return errFormat
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			if err := field(number, value); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

// parse reads a ScaledObjectRef.
func (r *reference) parse(b []byte) error {
	return fields(b, func(number protowire.Number, value []byte) error {
		switch number {
		case 1:
			r.name = string(value)
		case 2:
			r.namespace = string(value)
		case 3:
			return r.entry(value)
		}
		return nil
	})
}

// entry reads an entry of the metadata.
func (r *reference) entry(b []byte) error {
	var key, value string
	err := fields(b, func(number protowire.Number, v []byte) error {
		switch number {
		case 1:
			key = string(v)
		case 2:
			value = string(v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.metadata == nil {
		r.metadata = make(map[string]string)
	}
	if len(r.metadata) == maxMetadata {
		return fmt.Errorf("more than %d keys of metadata", maxMetadata)
	}
	r.metadata[key] = value
	return nil
}

// query is a GetMetricsRequest, of which the metric's name is not needed: there is one.
type query struct{ reference }

func (q *query) parse(b []byte) error {
	return fields(b, func(number protowire.Number, value []byte) error {
		if number == 1 {
			return q.reference.parse(value)
		}
		return nil
	})
}

// activity is an IsActiveResponse.
type activity bool

func (a activity) append(b []byte) []byte {
	if a {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 1)
	}
	return b
}

// metric is a MetricSpec in a GetMetricSpecResponse, or a MetricValue in a GetMetricsResponse: their fields
// have the same numbers and types.
type metric float64

// metricName is what KEDA knows the metric by.
const metricName = "messages"

func (m metric) append(b []byte) []byte {
	inner := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), metricName)
	if m > 0 { // as an integer for those that read no other
		inner = protowire.AppendVarint(protowire.AppendTag(inner, 2, protowire.VarintType), uint64(math.Ceil(float64(m))))
		inner = protowire.AppendFixed64(protowire.AppendTag(inner, 3, protowire.Fixed64Type), math.Float64bits(float64(m)))
	}
	return protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), inner)
}

// codec is what gRPC reads and writes these messages by.
type codec struct{}

// Name is what a client names in its content type; encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal writes a message of the server's; encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(interface{ append([]byte) []byte }).append(nil))}, nil
}

// Unmarshal reads one of the client's; encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	return v.(interface{ parse([]byte) error }).parse(data.Materialize())
}
