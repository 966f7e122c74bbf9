package dataplane

import "eproxy/internal/clock"

// monotonic is the clock of the BPF programs.
var monotonic = clock.Monotonic
