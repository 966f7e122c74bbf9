// Package native compiles the context-free headers of the BPF programs
// (ledger.h, sack.h, loss.h, hole.h, conn.h, mqtt.h, framing.h, http.h) with the host compiler and calls them through
// cgo, so that they can be model-tested and fuzzed without a kernel.
//
// The headers are symbolic links here, since the go tool rebuilds cgo code only
// when a header in the package directory changes.
//
// Nothing imports this package: the normal binaries stay free of cgo. Without
// cgo it is empty.
//
// The model test reads these environment variables:
//
//	EPROXY_MODEL_STEPS  number of events to run (default 10,000,000)
//	EPROXY_MODEL_SEED   first seed (default fixed, printed)
package native
