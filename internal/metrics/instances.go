package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	instances      = prometheus.NewDesc("eproxy_instances", "Instances that the loader runs, by where they are in their life.", []string{"function", "state"}, nil)
	evicted        = prometheus.NewDesc("eproxy_instances_evicted_total", "Instances that were stopped because others needed their memory.", []string{"function"}, nil)
	instanceMemory = prometheus.NewDesc("eproxy_instance_memory_bytes", "Memory that the function's instances have, as their control groups count it; what is in swap is not part of it.", []string{"function"}, nil)
	zygoteMemory   = prometheus.NewDesc("eproxy_zygote_memory_bytes", "Memory that the function's zygote has, with what is left of earlier ones, as control groups count it.", []string{"function"}, nil)
	forked         = prometheus.NewDesc("eproxy_instances_forked_total", "Instances that were forked from the function's zygote.", []string{"function"}, nil)
)

// InstanceSource tells how many instances of each function are in each state that there is one in, and how much memory they have in bytes.
type InstanceSource interface {
	EachInstances(each func(function, state string, instances int, memory int64))
	// EachEvicted says how many instances of a function were stopped because others needed their memory.
	EachEvicted(each func(function string, instances uint64))
	// EachZygote says of each function that is to have a zygote how many bytes zygotes take, and how many instances were forked.
	EachZygote(each func(function string, memory int64, forks int))
}

// running collects what instances there are.
type running struct{ source InstanceSource }

// NewInstances collects what instances there are.
func NewInstances(source InstanceSource) prometheus.Collector { return running{source} }

// Describe says what Collect reports.
func (c running) Describe(ch chan<- *prometheus.Desc) {
	ch <- instances
	ch <- instanceMemory
	ch <- evicted
	ch <- zygoteMemory
	ch <- forked
}

// Collect asks the source.
func (c running) Collect(ch chan<- prometheus.Metric) {
	memory := make(map[string]int64)
	c.source.EachInstances(func(function, state string, n int, bytes int64) {
		ch <- prometheus.MustNewConstMetric(instances, prometheus.GaugeValue, float64(n), function, state)
		memory[function] += bytes
	})
	for function, bytes := range memory {
		ch <- prometheus.MustNewConstMetric(instanceMemory, prometheus.GaugeValue, float64(bytes), function)
	}
	c.source.EachEvicted(func(function string, n uint64) {
		ch <- prometheus.MustNewConstMetric(evicted, prometheus.CounterValue, float64(n), function)
	})
	c.source.EachZygote(func(function string, memory int64, forks int) {
		ch <- prometheus.MustNewConstMetric(zygoteMemory, prometheus.GaugeValue, float64(memory), function)
		ch <- prometheus.MustNewConstMetric(forked, prometheus.CounterValue, float64(forks), function)
	})
}
