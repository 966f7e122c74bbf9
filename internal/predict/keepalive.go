package predict

import "time"

// KeepAlive keeps an instance awake for a fixed time after its last work. With
// lambda for the time no sequence of arrivals costs more than twice what it
// would if they were known (the ski rental problem): this is what is fallen
// back to.
type KeepAlive time.Duration

// Observe learns nothing.
func (KeepAlive) Observe(_, _ time.Duration) {}

// Plan is the same always.
func (k KeepAlive) Plan() Plan { return Plan{Keep: time.Duration(k)} }
