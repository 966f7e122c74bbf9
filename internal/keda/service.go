package keda

import (
	"context"

	"google.golang.org/grpc"
)

// description is the service of externalscaler.proto.
var description = grpc.ServiceDesc{
	ServiceName: "externalscaler.ExternalScaler",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "IsActive", Handler: method((*Server).isActive)},
		{MethodName: "GetMetricSpec", Handler: method((*Server).metricSpec)},
		{MethodName: "GetMetrics", Handler: method((*Server).metrics)},
	},
	Streams: []grpc.StreamDesc{
		{StreamName: "StreamIsActive", Handler: stream((*Server).streamActive), ServerStreams: true},
		{StreamName: "StreamMetricSpec", Handler: stream((*Server).streamSpec), ServerStreams: true},
	},
}

// method has one request answered.
func method[Q any, A any](answer func(*Server, *Q) (A, error)) grpc.MethodHandler {
	return func(s any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		q := new(Q)
		if err := read(q); err != nil {
			return nil, err
		}
		return answer(s.(*Server), q)
	}
}

// stream has one request answered until the client has enough of it, or the server ends.
func stream(answer func(*Server, *reference, grpc.ServerStream) error) grpc.StreamHandler {
	return func(s any, answers grpc.ServerStream) error {
		q := new(reference)
		if err := answers.RecvMsg(q); err != nil {
			return err
		}
		return answer(s.(*Server), q, answers)
	}
}
