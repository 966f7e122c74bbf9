package pinned

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// Function is one installed function.
type Function struct {
	Index       uint32
	Name        string
	URL         string
	Concurrency uint32
	TimeoutMs   uint32
	Waiting     int // messages that wait in the kernel for a slot
}

// Functions are the installed functions, in the order of the configuration.
func (m *Maps) Functions() ([]Function, error) {
	var out []Function
	var k uint32
	var info bpf.EproxyFunctionInfo
	it := m.maps["function_names"].Iterate()
	for it.Next(&k, &info) {
		if now, err := m.current("functions", k); err != nil {
			return nil, err
		} else if !now {
			continue
		}
		waiting, err := m.waiting(k)
		if err != nil {
			return nil, err
		}
		out = append(out, Function{k, text(info.Name[:], info.NameLen), text(info.Url[:], info.UrlLen), info.Concurrency, info.TimeoutMs, waiting})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	sortBy(out, func(f Function) uint32 { return f.Index })
	return out, nil
}

// waiting is how many messages wait for the slots of the function with this index.
func (m *Maps) waiting(function uint32) (int, error) {
	var fn bpf.EproxyFunction
	if err := m.maps["functions"].Lookup(function, &fn); err != nil {
		return 0, fmt.Errorf("read function %d: %w", function, err)
	}
	var q bpf.EproxyQueue
	err := m.queues.Lookup(fn.Queue, &q, 0)
	if errors.Is(err, ebpf.ErrKeyNotExist) { // it has none, or none yet
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read queue %d: %w", fn.Queue, err)
	}
	return int(q.Count), nil
}

func (m *Maps) functionNames() (map[uint32]string, error) {
	fs, err := m.Functions()
	return namesOf(fs), err
}

func namesOf(functions []Function) map[uint32]string {
	names := make(map[uint32]string)
	for _, f := range functions {
		names[f.Index] = f.Name
	}
	return names
}
