package config

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/field"
	"eproxy/internal/topic"
)

func (b *builder) function(path string, r *rawFunction) {
	f := &Function{Name: r.Name, ContentType: r.ContentType, Headers: r.Headers,
		CloudEvents: CloudEvents{Type: r.CloudEvents.Type, Source: r.CloudEvents.Source, FromPublisher: r.CloudEvents.FromPublisher}}
	if r.Name == "" || len(r.Name) > 100 || strings.ContainsAny(r.Name, " /\t\n\"") {
		b.fail(path+".name", "function name %q: must be 1 to 100 characters without blanks, slashes and quotes", r.Name)
	}
	if b.find(r.Name) != nil {
		b.fail(path+".name", "function %q is a duplicate", r.Name)
	}
	u, err := parseURL(r.URL)
	if err != nil {
		b.fail(path+".url", "function %q: url %q: %v", r.Name, r.URL, err)
	}
	f.URL = u
	b.pods(path, f, r)
	f.Topology = b.topology(path+".topology", r)
	f.Pipeline = b.pipeline(path+".pipeline", r.Pipeline)
	f.Concurrency = b.number(path+".concurrency", r.Concurrency, defaultConcurrency, 1, abi.SlotsPerPod)
	f.Timeout = b.duration(path+".timeout", r.Timeout, defaultTimeout)
	f.Queue = Queue{
		Messages: b.number(path+".queue.messages", r.Queue.Messages, QueueMessages, 4, 1<<20),
		Bytes:    b.number(path+".queue.bytes", r.Queue.Bytes, QueueBytes, 1<<16, 1<<30),
		Spool:    b.spool(path+".queue.spool", r),
	}
	f.Retry = Retry{
		Attempts:   b.number(path+".retry.attempts", r.Retry.Attempts, defaultAttempts, 1, 100),
		Backoff:    b.duration(path+".retry.backoff", r.Retry.Backoff, defaultBackoff),
		MaxBackoff: b.duration(path+".retry.max_backoff", r.Retry.MaxBackoff, defaultMaxBackoff),
		Final:      b.final(path+".retry.final", r),
	}
	f.Deadline = b.deadline(path+".deadline", r.Deadline, f)
	f.CloudEvents.Structured = b.mode(path+".cloudevents.mode", r)
	f.Batch = b.batch(path+".batch", f, r.Batch)
	f.DeadLetter = b.deadLetter(path+".dead_letter", r)
	b.headers(path, f)
	f.Tracing = b.tracing(path+".tracing", f, r.Tracing)
	b.autoscaling(path+".autoscaling", f, &r.Autoscaling)
	b.cfg.Functions = append(b.cfg.Functions, f)
}

// defaultFinal are statuses by which a function says that the same request will not be served at another time
// either (RFC 9110 section 15.5).
var defaultFinal = []int{400, 404, 413, 422}

// final reads which statuses end a message.
func (b *builder) final(path string, r *rawFunction) []int {
	if r.Retry.Final == nil {
		return defaultFinal
	}
	out := slices.Clone(*r.Retry.Final)
	for i, status := range out {
		if status < 300 || status > 599 {
			b.fail(fmt.Sprintf("%s[%d]", path, i), "function %q: retry.final %d: must be a status from 300 to 599", r.Name, status)
		}
	}
	slices.Sort(out)
	return out
}

// topology reads which pods are preferred.
func (b *builder) topology(path string, r *rawFunction) string {
	switch r.Topology {
	case "":
		return TopologyLocal
	case TopologyLocal, TopologyAny:
	default:
		b.fail(path, "function %q: topology %q: must be %s or %s", r.Name, r.Topology, TopologyLocal, TopologyAny)
	}
	return r.Topology
}

// pipeline reads how many requests a connection may have in flight.
func (b *builder) pipeline(path, s string) int {
	if s == "" || s == "auto" {
		return PipelineAuto
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > abi.PipelineMax {
		b.fail(path, "%s %q: must be auto, or a number from 1 to %d", b.named(path), s, abi.PipelineMax)
	}
	return n
}

// pods reads where a function's pods are.
func (b *builder) pods(path string, f *Function, r *rawFunction) {
	d := &r.Discover
	switch {
	case r.Kubernetes != nil && d.Kubernetes != nil:
		b.fail(path+".kubernetes", "function %q: kubernetes and discover.kubernetes are the same: one of them is too many", r.Name)
	case r.Kubernetes != nil:
		f.Discover.Service = b.service(path+".kubernetes", r.Name, r.Kubernetes)
	case d.Kubernetes != nil:
		f.Discover.Service = b.service(path+".discover.kubernetes", r.Name, d.Kubernetes)
	case len(r.Pods) == 0 && d.File == "" && d.DNS == "" && r.Run == nil:
		b.fail(path+".pods", "function %q has no pods: list them, or say where to discover them, or what to run", r.Name)
	}
	f.Run = b.run(path, r.Name, r.Run)
	if f.Discover.File = d.File; d.File != "" && !strings.HasPrefix(d.File, "/") {
		b.fail(path+".discover.file", "function %q: discover file %q: must be an absolute path", r.Name, d.File)
	}
	if d.DNS != "" {
		var err error
		if f.Discover.DNS, err = parseDNS(d.DNS); err != nil {
			b.fail(path+".discover.dns", "function %q: discover dns %q: %v", r.Name, d.DNS, err)
		}
	}
	for i, s := range r.Pods {
		b.pod(fmt.Sprintf("%s.pods[%d]", path, i), f, s)
	}
	for i, s := range r.Drain {
		a, err := parsePod(s)
		if err != nil {
			b.fail(fmt.Sprintf("%s.drain[%d]", path, i), "function %q: drain %q: %v", f.Name, s, err)
		}
		f.Drain = append(f.Drain, a)
	}
	f.Paused, f.Probe = r.Paused, r.Probe
	if why := unfitProbe(r.Probe); why != "" {
		b.fail(path+".probe", "function %q: probe %q %s", f.Name, r.Probe, why)
	}
}

// unfitProbe says what is wrong with a probe; empty: nothing.
func unfitProbe(probe string) string {
	if probe == "" || probe == ProbeTCP {
		return ""
	}
	if !strings.HasPrefix(probe, "/") {
		return "must be tcp, or a path such as /healthz"
	}
	if _, err := url.ParseRequestURI(probe); err != nil || strings.ContainsAny(probe, " #") {
		return "is no valid path"
	}
	return ""
}

// pod reads one address, or host name, of the list.
func (b *builder) pod(path string, f *Function, s string) {
	if h, err := parseHost(s); err == nil {
		if slices.Contains(f.Hosts, h) {
			b.fail(path, "function %q: pod %q is a duplicate", f.Name, s)
		}
		f.Hosts = append(f.Hosts, h)
		return
	}
	a, err := parsePod(s)
	if err != nil {
		b.fail(path, "function %q: pod %q: %v", f.Name, s, err)
	} else if slices.Contains(f.Pods, a) {
		b.fail(path, "function %q: pod %q is a duplicate", f.Name, s)
	}
	f.Pods = append(f.Pods, a)
}

// deadline is how long a message of the function may take; by default, as long as
// twice all its attempts.
func (b *builder) deadline(path string, d *duration, f *Function) time.Duration {
	all := time.Duration(math.MaxInt64) // centuries
	if n := 2 * time.Duration(f.Retry.Attempts); n > 0 && f.Timeout > 0 && f.Timeout <= all/n {
		all = n * f.Timeout
	}
	deadline := b.duration(path, d, all)
	if d != nil && deadline > 0 && deadline < f.Timeout {
		b.fail(path, "function %q: deadline %s: must be at least the timeout of one attempt, %s", f.Name, deadline, f.Timeout)
	}
	return deadline
}

// headers checks what all requests of the function carry.
func (b *builder) headers(path string, f *Function) {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		at, lower := path+".headers."+name, strings.ToLower(name)
		switch why := field.Reserved(name); {
		case !field.ValidName(name):
			b.fail(at, "function %q: header name %q is not a token", f.Name, name)
		case why != "":
			b.fail(at, "function %q: header %q %s", f.Name, name, why)
		case seen[lower]:
			b.fail(at, "function %q: header %q is a duplicate", f.Name, name)
		}
		seen[lower] = true
		b.fieldValue(at, f, "header "+strconv.Quote(name), f.Headers[name])
	}
	b.fieldValue(path+".content_type", f, "content_type", f.ContentType)
}

// fieldValue checks a value that is sent as it is.
func (b *builder) fieldValue(path string, f *Function, what, value string) {
	if !field.ValidValue(value) {
		b.fail(path, "function %q: %s: value %q has control characters", f.Name, what, value)
	} else if !field.Trimmed(value) {
		b.fail(path, "function %q: %s: value %q begins or ends with a blank", f.Name, what, value)
	}
}

// find is the function of that name, or nil.
func (b *builder) find(name string) *Function { return b.cfg.Function(name) }

// Function finds a function by name, nil if there is none.
func (c *Config) Function(name string) *Function {
	for _, f := range c.Functions {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// unsure says whether a function may be missing only because it, or its name, could not
// be decoded.
func (b *builder) unsure() bool {
	if b.unknown["$"] && len(b.raw.Functions) == 0 || b.failed["$.functions"] {
		return true
	}
	for i := range b.raw.Functions {
		if path := fmt.Sprintf("$.functions[%d]", i); b.unknown[path] || b.failed[path] || b.failed[path+".name"] {
			return true
		}
	}
	return false
}

func (b *builder) routes(rs []rawRoute) {
	seen := make(map[string]int)
	for i, r := range rs {
		path := fmt.Sprintf("$.routes[%d]", i)
		out := &Route{Topic: r.Topic, Filter: topic.StripShare(r.Topic), Functions: r.Functions, AlsoBroker: r.AlsoBroker, Ordered: r.Ordered}
		if err := topic.ValidateFilter(r.Topic); err != nil {
			b.fail(path+".topic", "route %q: %v", r.Topic, err)
		} else if topic.Reserved(out.Filter) {
			b.fail(path+".topic", "route %q: topics under $SYS and $share are the server's own", r.Topic)
		} else if first, dup := seen[out.Filter]; dup {
			b.fail(path+".topic", "route %q is a duplicate of line %d", r.Topic, first)
		} else {
			seen[out.Filter] = b.line(path + ".topic")
		}
		switch {
		case r.Function != "" && len(r.Functions) > 0:
			b.fail(path, "route %q has both function and functions", r.Topic)
		case r.Function != "":
			out.Functions = []string{r.Function}
		case len(r.Functions) == 0:
			b.fail(path+".function", "route %q has no function", r.Topic)
		}
		for j, name := range out.Functions {
			where := fmt.Sprintf("%s.functions[%d]", path, j)
			if r.Function != "" {
				where = path + ".function"
			}
			if b.find(name) == nil && !b.unsure() {
				b.fail(where, "route %q: unknown function %q", r.Topic, name)
			}
			if slices.Index(out.Functions, name) != j {
				b.fail(where, "route %q: function %q is a duplicate", r.Topic, name)
			}
		}
		b.cfg.Routes = append(b.cfg.Routes, out)
	}
}
