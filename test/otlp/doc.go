// Package otlp has the receiver of OpenTelemetry's collector read the spans that are exported. A module of its own, so that what the
// collector depends on stays out of go.mod.
package otlp
