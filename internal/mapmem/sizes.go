package mapmem

import (
	"os"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/config"
)

// Deepest is the number of request buffers that a slot may need: the largest
// pipeline of any function, rounded up to a power of two. Functions that resources of
// Kubernetes bring later may have the deepest.
func Deepest(cfg *config.Config) uint32 {
	if len(cfg.Kubernetes.Routes) > 0 {
		return abi.PipelineMax
	}
	n := uint32(1)
	for _, fn := range cfg.Functions {
		if fn.Pipeline == config.PipelineAuto {
			return abi.PipelineMax
		}
		for n < uint32(fn.Pipeline) {
			n *= 2
		}
	}
	return n
}

// hintsFor is the size of the hints map for so many connections: a power of
// two, at least twice as many, so that few share an entry.
func hintsFor(conns uint32) uint32 {
	n := uint32(1)
	for n < 2*conns {
		n *= 2
	}
	return n
}

// Knobs are the constants of the programs that follow from the sizes of maps.
func Knobs(cfg *config.Config) map[string]uint32 {
	slots := slotsFor(cfg)
	return map[string]uint32{"knob_slots": slots, "knob_pod_shift": bpf.PodShift(uint32(cfg.Limits.Pods)),
		"knob_hints": hintsFor(slots + uint32(cfg.Limits.Connections)), "knob_pipeline": Deepest(cfg)}
}

// Sizes are the numbers of entries of the maps whose size follows from the configuration; of those in chunks, of chunks.
func Sizes(cfg *config.Config) map[string]uint32 {
	slots := slotsFor(cfg)
	conns := slots + uint32(cfg.Limits.Connections)
	return map[string]uint32{
		"flows": conns, "hints": hintsFor(conns), "attention": (conns + 63) / 64, "conns": chunk.Chunks(conns), "devices": chunk.Chunks(uint32(cfg.Limits.Connections)),
		"slots": chunk.Chunks(slots), "requests": chunk.Chunks(slots + slots*Deepest(cfg)), "pod_socks": slots, "pods": uint32(cfg.Limits.Pods), "asleep": uint32(cfg.Limits.Pods),
		"alias_tables": chunk.Chunks(uint32(cfg.Limits.Connections)), "routes": 2 * uint32(cfg.Limits.Routes), "route_names": 2 * uint32(cfg.Limits.Routes),
		"route_counters": chunk.Chunks(RouteSeries(cfg)), "route_labels": RouteSeries(cfg),
		"copies": ringFor(uint32(cfg.Limits.Copies)), "pod_counters": chunk.Chunks(PodSeries(cfg)), "pod_labels": PodSeries(cfg),
	}
}

// RouteSeries is how many indexes of routes' counters there are: those of the
// routes before a reload and those after it are in use at once.
func RouteSeries(cfg *config.Config) uint32 { return 2 * uint32(cfg.Limits.Routes) }

// PodSeries is the same for pods; there is room for some that come back.
func PodSeries(cfg *config.Config) uint32 { return 4 * uint32(cfg.Limits.Pods) }

// slotsFor is how many conn indexes are slots'.
func slotsFor(cfg *config.Config) uint32 {
	return chunk.Chunks(abi.SlotsPerPod<<bpf.PodShift(uint32(cfg.Limits.Pods))) * chunk.Size
}

// ringFor is the size of a ring of at least so many bytes: a power of two, in pages.
func ringFor(bytes uint32) uint32 {
	n := uint32(os.Getpagesize())
	for n < bytes {
		n *= 2
	}
	return n
}
