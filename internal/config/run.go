package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Run is how the loader starts instances of a function on this machine.
type Run struct {
	Command  []string          // at least one; looked up in the PATH of Env
	Env      map[string]string // beside PATH, HOME and PORT
	Dir      string            // absolute path that it is started in
	User     string            // name or number, never root
	Memory   int64             // bytes
	CPU      float64           // processors; 0: no limit
	Min      int               // instances that there are always, 0 to Max
	Max      int               // 1 to MaxInstances; more than Min: as many as the load needs
	Lambda   time.Duration     // idle time of an instance that one cold start is worth; it matters where Min is 0
	Zygote   string            // ZygotePython: instances are forked from a process that has imported Imports; empty: each is started
	Imports  []string          // modules; nil: those that the program begins with
	ReadOnly bool              // all file systems but those for temporary files
	Outgoing bool              // it may connect to other machines
	Port     uint16            // that it must listen on, PORT in its environment
	Start    time.Duration     // within which it must
	Stop     time.Duration     // from SIGTERM to SIGKILL
	Idle     time.Duration     // without a request, after which instances are frozen; 0: never
	PageOut  time.Duration     // without a request, after which what is frozen leaves memory, at least Idle; 0: never
}

// ZygotePython is the one kind of zygote that there is.
const ZygotePython = "python"

// MaxInstances is how many instances one function may have.
const MaxInstances = 256

// Key is the same text for two of the same.
func (r *Run) Key() string {
	b, _ := json.Marshal(r) // there is nothing in it that cannot be marshalled; maps are sorted
	return string(b)
}

// Runtime is what all instances share.
type Runtime struct {
	Addresses netip.Prefix // of instances; the first is this machine's towards them
	Memory    int64        // bytes that instances have together; 0: no limit beside their own
}

// Defaults of Run and Runtime.
const (
	defaultUser      = "nobody"
	defaultMemory    = 512 << 20
	defaultPort      = 8080
	defaultStart     = 30 * time.Second
	defaultStop      = 10 * time.Second
	minIdle          = time.Second
	defaultLambda    = 10 * time.Minute // predict.DefaultLambda, whose doc comment has the reason
	minLambda        = time.Second
	maxLambda        = 30 * 24 * time.Hour
	defaultAddresses = "100.127.240.0/20" // of the shared address space (RFC 6598), which no network of one's own has
)

// run reads how a function is run.
func (b *builder) run(path, name string, r *rawRun) *Run {
	if r == nil {
		return nil
	}
	path += ".run"
	f := &Run{Command: r.Command, Env: r.Env, Dir: or(r.Dir, "/"), User: or(r.User, defaultUser)}
	if len(r.Command) == 0 || r.Command[0] == "" {
		b.fail(path+".command", "function %q: run has no command: a list, as [/usr/bin/node, server.js]", name)
	}
	for i, s := range r.Command {
		if strings.ContainsRune(s, 0) {
			b.fail(fmt.Sprintf("%s.command[%d]", path, i), "function %q: run.command: has a NUL", name)
		}
	}
	for key, value := range r.Env {
		switch {
		case key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(value, 0):
			b.fail(path+".env."+key, "function %q: run.env %q: must have a name without =, and no NUL", name, key)
		case key == "PORT":
			b.fail(path+".env."+key, "function %q: run.env PORT: it is set by run.port", name)
		}
	}
	if !strings.HasPrefix(f.Dir, "/") {
		b.fail(path+".dir", "function %q: run.dir %q: must be an absolute path", name, r.Dir)
	}
	if f.User == "root" || f.User == "0" {
		b.fail(path+".user", "function %q: run.user %q: instances never run as root", name, r.User)
	}
	f.Memory = b.bytes(path+".memory", r.Memory, defaultMemory)
	if r.CPU != "" {
		cpu, err := strconv.ParseFloat(r.CPU, 64)
		if f.CPU = cpu; err != nil || !(cpu >= 0.01 && cpu <= 1024) {
			b.fail(path+".cpu", "function %q: run.cpu %q: must be processors, as 0.5 or 2", name, r.CPU)
		}
	}
	f.Min, f.Max = b.instances(path+".instances", r.Instances)
	if f.Lambda = b.duration(path+".lambda", r.Lambda, defaultLambda); f.Lambda > 0 && f.Lambda < minLambda || f.Lambda > maxLambda {
		b.fail(path+".lambda", "function %q: run.lambda %s: must be from %s to %s", name, f.Lambda, minLambda, maxLambda)
	}
	b.zygote(path, name, r, f)
	f.ReadOnly = b.choice(path+".sandbox", r.Sandbox, "none", "read-only") == "read-only"
	f.Outgoing = b.choice(path+".network", r.Network, "outgoing", "none") == "outgoing"
	f.Port = uint16(b.number(path+".port", r.Port, defaultPort, 1, 65535))
	f.Start = b.duration(path+".start", r.Start, defaultStart)
	f.Stop = b.duration(path+".stop", r.Stop, defaultStop)
	b.idle(path, name, r, f)
	return f
}

// Bounds of imports.
const (
	maxImports = 256
	maxImport  = 200 // bytes
)

// moduleName is a module's name, with those of the packages that it is in.
var moduleName = regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*$`)

// zygote reads what instances are forked from.
func (b *builder) zygote(path, name string, r *rawRun, f *Run) {
	if r.Zygote != "" && r.Zygote != ZygotePython {
		b.fail(path+".zygote", "function %q: run.zygote %q: must be %s", name, r.Zygote, ZygotePython)
	}
	if r.Imports != nil && r.Zygote == "" {
		b.fail(path+".imports", "function %q: run.imports: only a zygote imports them, and without run.zygote there is none", name)
	}
	if len(r.Imports) > maxImports {
		b.fail(path+".imports", "function %q: run.imports: %d are too many, %d may be", name, len(r.Imports), maxImports)
	}
	for i, s := range r.Imports {
		switch at := fmt.Sprintf("%s.imports[%d]", path, i); {
		case len(s) > maxImport || !moduleName.MatchString(s):
			b.fail(at, "function %q: run.imports %.200q: must be the name of a module, as json or xml.sax", name, s)
		case slices.Index(r.Imports, s) != i:
			b.fail(at, "function %q: run.imports %q is a duplicate", name, s)
		}
	}
	f.Zygote, f.Imports = r.Zygote, r.Imports
}

// never is the word for a time that does not come.
const never = "never"

// idle reads when instances sleep, and how deep.
func (b *builder) idle(path, name string, r *rawRun, f *Run) {
	if r.Idle == nil {
		if r.PageOut != nil && *r.PageOut != never {
			b.fail(path+".page_out", "function %q: run.page_out: only what is frozen is paged out, and without run.idle nothing is", name)
		}
		return
	}
	if f.Idle = b.duration(path+".idle", r.Idle, 0); f.Idle > 0 && f.Idle < minIdle {
		b.fail(path+".idle", "function %q: run.idle %s: must be at least %s", name, f.Idle, minIdle)
	}
	if r.PageOut != nil && *r.PageOut == never {
		return
	}
	if f.PageOut = b.duration(path+".page_out", r.PageOut, max(f.Lambda, f.Idle)); f.PageOut > 0 && f.PageOut < f.Idle {
		b.fail(path+".page_out", "function %q: run.page_out %s: must be at least run.idle, %s, or never", name, f.PageOut, f.Idle)
	}
}

// instances reads how many instances there may be: 1 if nothing is said. Who gives only the most has none at rest.
func (b *builder) instances(path string, r *rawInstances) (least, most int) {
	switch {
	case r == nil:
		return 1, 1
	case r.Min != nil && r.Min == r.Max: // a number alone
		least = b.number(path, r.Min, 1, 1, MaxInstances)
		return least, least
	}
	least = b.number(path+".min", r.Min, 0, 0, MaxInstances)
	most = b.number(path+".max", r.Max, max(1, least), 1, MaxInstances)
	if least > most {
		b.fail(path, "%s: min %d is more than max %d", b.named(path), least, most)
	}
	return least, most
}

// choice reads one of two words, the first of which is the default.
func (b *builder) choice(path, s, one, other string) string {
	if s = or(s, one); s != one && s != other {
		b.fail(path, "%s %q: must be %s or %s", b.named(path), s, one, other)
	}
	return s
}

// units are what sizes in bytes may end with.
var units = []struct {
	suffix string
	shift  uint
}{{"Ki", 10}, {"Mi", 20}, {"Gi", 30}}

// bytes reads a size of memory.
func (b *builder) bytes(path, s string, fallback int64) int64 {
	if s == "" {
		return fallback
	}
	const least, most = 1 << 20, 1 << 50
	number, shift := s, uint(0)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			number, shift = n, u.shift
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > most>>shift || n<<shift < least {
		b.fail(path, "%s %q: must be bytes, at least 1Mi, as 256Mi or 2Gi", b.named(path), s)
		return fallback
	}
	return n << shift
}

// runtime reads what all instances share.
func (b *builder) runtime(r *rawRuntime) {
	p, err := netip.ParsePrefix(or(r.Addresses, defaultAddresses))
	if err != nil || !p.Addr().Is4() || p.Bits() > 30 || p.Bits() < 8 {
		b.fail("$.runtime.addresses", "runtime.addresses %q: must be an IPv4 prefix of /8 to /30, as %s", r.Addresses, defaultAddresses)
		return
	}
	b.cfg.Runtime.Addresses = p.Masked()
	if r.Memory == "" {
		return
	}
	b.cfg.Runtime.Memory = b.bytes("$.runtime.memory", r.Memory, 0)
	for i, f := range b.cfg.Functions {
		if f.Run != nil && b.cfg.Runtime.Memory > 0 && f.Run.Memory > b.cfg.Runtime.Memory {
			b.fail(fmt.Sprintf("$.functions[%d].run.memory", i), "function %q: run.memory of %d MiB is more than all instances may have together, the %d MiB of runtime.memory: it would never be started",
				f.Name, f.Run.Memory>>20, b.cfg.Runtime.Memory>>20)
		}
	}
}
