package upstream

import "eproxy/internal/metrics"

// Recorder counts requests, and has the pods' life follow how they fare.
type Recorder struct {
	*metrics.Metrics
	Life *Life
}

// Request counts a request that a pod was sent; status 0: there was no response.
func (r Recorder) Request(function, pod string, status int) {
	r.Metrics.Request(function, pod, status)
	r.Life.Request(function, pod, status)
}

// ConnectFailed counts a connection to a pod that could not be made.
func (r Recorder) ConnectFailed(function, pod string) {
	r.Metrics.ConnectFailed(function, pod)
	r.Life.Request(function, pod, 0)
}
