package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/netdev"
)

// Names of features that only a privileged process can try.
const (
	locksName    = "control locks"
	tcxName      = "TCX"
	programsName = "programs"
)

// kernel tries what the programs need of the kernel: each by itself, then the
// programs.
func kernel() []Feature {
	fs := requirements()
	return append(fs, programs(fs))
}

// requirements are the features without which no program loads or attaches.
func requirements() []Feature {
	return []Feature{kernelBTF(), skbFields(), controlLocks(), tcx()}
}

// Lacks names what the programs need and this kernel does not have.
func Lacks() []string {
	var names []string
	for _, f := range requirements() {
		if f.State == Missing {
			names = append(names, f.Name)
		}
	}
	return names
}

func kernelBTF() Feature {
	const what = "kernel BTF"
	if _, err := btf.LoadKernelSpec(); err != nil {
		return Feature{what, Missing, err.Error()}
	}
	return Feature{what, Used, "/sys/kernel/btf/vmlinux"}
}

// skbFields: the kernel's own sk_buff is reached through bpf_cast_to_kern_ctx.
func skbFields() Feature {
	const what = "sk_buff fields"
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return Feature{what, Missing, err.Error()}
	}
	var f *btf.Func
	if err := spec.TypeByName("bpf_cast_to_kern_ctx", &f); err != nil {
		return Feature{what, Missing, "bpf_cast_to_kern_ctx is of Linux 6.2"}
	}
	return Feature{what, Used, "by bpf_cast_to_kern_ctx"}
}

// controlLocks loads a program of the control programs' kind that uses a map
// with a spin lock.
func controlLocks() Feature {
	const what = locksName
	number := &btf.Int{Name: "unsigned int", Size: 4}
	lock := &btf.Struct{Name: "bpf_spin_lock", Size: 4, Members: []btf.Member{{Name: "val", Type: number}}}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1, Key: number,
		Value: &btf.Struct{Name: "locked", Size: 4, Members: []btf.Member{{Name: "lock", Type: lock}}}})
	if err != nil {
		return Feature{what, Missing, oneLine(err)}
	}
	defer m.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Syscall, Flags: unix.BPF_F_SLEEPABLE, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		return Feature{what, Missing, "spin locks in sleepable programs are of Linux 6.6"}
	}
	_ = p.Close()
	return Feature{what, Used, "programs that userspace runs may hold spin locks"}
}

// tcx attaches a program to the loopback interface for a moment.
func tcx() Feature {
	const what = tcxName
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return Feature{what, Missing, err.Error()}
	}
	if err := netdev.TryTCX(lo.Index); err != nil {
		return Feature{what, Missing, oneLine(netdev.TCXRefusal("lo", "a program", err))}
	}
	return Feature{what, Used, "programs attach by link"}
}

// programs loads the real object with small maps: verifier, helpers, spin
// locks, socket map and ring buffer are tried in one.
func programs(needed []Feature) Feature {
	const what = programsName
	for _, f := range needed {
		if f.State == Missing {
			return Feature{what, Missing, "need what is missing above"}
		}
	}
	object := bpf.Choose()
	spec, err := object.Load()
	if err != nil {
		return Feature{what, Missing, err.Error()}
	}
	for name, m := range spec.Maps {
		if m.Type != ebpf.RingBuf && name != "reasons" && m.MaxEntries > 64 { // a ring has whole pages
			m.MaxEntries = 64
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return Feature{what, Missing, oneLine(err)}
	}
	defer coll.Close()
	if ret, err := coll.Programs["sweep_start"].Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		return Feature{what, Missing, "control programs do not run: " + oneLine(cmp.Or(err, errors.New("no timer")))}
	}
	passed := fmt.Sprintf("%d programs pass this kernel's verifier", len(coll.Programs))
	if object.Name == bpf.Bounded.Name {
		return Feature{what, Degraded, fmt.Sprintf("%s, with at most %d messages in flight on a connection: may_goto is of Linux 6.9", passed, object.Pipeline)}
	}
	return Feature{what, Used, passed}
}

func oneLine(err error) string {
	var ve *ebpf.VerifierError
	if errors.As(err, &ve) {
		return fmt.Sprintf("%v", ve)
	}
	return err.Error()
}
