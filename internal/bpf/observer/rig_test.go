package observer

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// load loads the object with maps of its own.
func load(t testing.TB) *ObserveObjects {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := LoadObserve()
	if err != nil {
		t.Fatal(err)
	}
	o := new(ObserveObjects)
	if err := spec.LoadAndAssign(o, &ebpf.CollectionOptions{}); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestLoads(t *testing.T) {
	o := load(t)
	for _, p := range []*ebpf.Program{o.ObserveIn, o.ObserveOut, o.ObserveForget} {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, _ := info.VerifiedInstructions()
		t.Log(info.Name, n)
	}
}
