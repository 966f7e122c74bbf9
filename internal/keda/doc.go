// Package keda is an external push scaler for KEDA (github.com/kedacore/keda v2.21.0,
// pkg/scalers/externalscaler): a gRPC server that KEDA's operators connect to. It tells them at once
// that a message waits for a function without pods, so that they scale it from zero, and how
// many messages there are, so that an HPA scales it from one to many.
package keda
