// Package cloudevents holds what eproxy sends against the CloudEvents Go SDK as the receiver: binary and structured mode, and
// batches. It is a module of its own, so that nothing else needs the SDK.
package cloudevents
