package bpf

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write complexity.json")

// complexity is what the verifier had to do, on one kernel.
type complexity struct {
	Kernel   string                      `json:"kernel"`
	Programs map[string]programFootprint `json:"programs"`
	Bounded  map[string]programFootprint `json:"bounded"` // the same in the object of older kernels
}

type programFootprint struct {
	Verified     uint32 `json:"verified_instructions"`
	Instructions int    `json:"instructions"`
	Jited        uint32 `json:"jited_bytes"`
}

// verifierLimit is how many instructions the verifier follows at most
// (BPF_COMPLEXITY_LIMIT_INSNS).
const verifierLimit = 1000000

// TestVerifierComplexity fails when a program comes near the verifier's limit, and when
// it has grown by more than a tenth against the committed record without the
// record being renewed: go test ./internal/bpf -run Complexity -update
func TestVerifierComplexity(t *testing.T) {
	got := complexity{Kernel: kernel(t), Bounded: footprints(t, Bounded, verifierLimit*3/4)}
	if Choose().Name == MayGoto.Name {
		got.Programs = footprints(t, MayGoto, verifierLimit/2)
	}
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err == nil {
			err = os.WriteFile("complexity.json", append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var want complexity
	b, err := os.ReadFile("complexity.json")
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want.Kernel != got.Kernel {
		t.Logf("recorded on Linux %s, this is %s: growth is not checked", want.Kernel, got.Kernel)
		return
	}
	compare(t, got.Programs, want.Programs)
	compare(t, got.Bounded, want.Bounded)
}

// footprints loads an object; none of its programs may come nearer than near to
// the verifier's limit.
func footprints(t *testing.T, o Object, near uint32) map[string]programFootprint {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(whole(err))
	}
	defer coll.Close()
	fs := map[string]programFootprint{}
	for name, p := range coll.Programs {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, _ := info.VerifiedInstructions()
		size, _ := info.JitedSize()
		fs[name] = programFootprint{n, len(spec.Programs[name].Instructions), size}
		if n > near {
			t.Errorf("%s (%s): the verifier follows %d instructions, the limit is %d", name, o.Name, n, verifierLimit)
		}
	}
	return fs
}

func compare(t *testing.T, got, want map[string]programFootprint) {
	t.Helper()
	for name, g := range got {
		if w := want[name]; g.Verified > w.Verified*11/10 {
			t.Errorf("%s: the verifier follows %d instructions, recorded are %d: run with -update if that is meant", name, g.Verified, w.Verified)
		}
	}
}

// kernel is the release's first two numbers.
func kernel(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	return parts[0] + "." + parts[1]
}
