// Package config reads eproxy's configuration: YAML, strict, every error with
// file, line and the offending value.
package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Config is a valid configuration with all defaults filled in.
type Config struct {
	Interfaces   []string      // node interfaces that devices arrive on
	XDP          string        // auto, on, native, generic or off
	PodsGRO      bool          // GRO is to be switched on at the pods' ends of veth pairs
	Listeners    []Listener    // at least one
	Broker       Broker        // the MQTT server
	Auth         Auth          // who may connect, publish, subscribe
	Functions    []*Function   // names are unique
	Routes       []*Route      // filters are unique
	Kubernetes   Kubernetes    // how its API server is reached
	Runtime      Runtime       // of instances that the loader starts
	Scaler       Scaler        // who is told of the load
	Tracing      Tracing       // where spans go
	Monitoring   bool          // the HTTP of the pods is to be counted, whoever sends it
	Persistence  Persistence   // of sessions
	Metrics      Metrics       // Prometheus
	Limits       Limits        // sizes
	DrainTimeout time.Duration // for what is in flight at SIGTERM
	BPFFS        string        // pin directory

	file           string
	text           []byte
	interfaceLines []int // of Interfaces
	listenerLines  []int // of Listeners
}

// Text is what the configuration was read from.
func (c *Config) Text() []byte { return c.text }

// MissingInterfaces are errors that name the interfaces that do not exist.
func (c *Config) MissingInterfaces(exists func(name string) bool) Errors {
	return c.UnfitInterfaces(func(name string) string {
		if exists(name) {
			return ""
		}
		return "does not exist on this machine"
	})
}

// UnfitInterfaces are errors that name the interfaces of which why says something.
func (c *Config) UnfitInterfaces(why func(name string) string) Errors {
	var unfit Errors
	for i, name := range c.Interfaces {
		if w := why(name); w != "" {
			unfit = append(unfit, &Error{File: c.file, Line: c.interfaceLines[i], Message: fmt.Sprintf("interface %q %s", name, w)})
		}
	}
	return unfit
}

// UnfitListeners are errors that name the listeners of which why says something.
func (c *Config) UnfitListeners(why func(*Listener) error) Errors {
	var unfit Errors
	for i := range c.Listeners {
		if err := why(&c.Listeners[i]); err != nil {
			unfit = append(unfit, &Error{File: c.file, Line: c.listenerLines[i], Message: fmt.Sprintf("listener %q: %v", c.Listeners[i].Address, err)})
		}
	}
	return unfit
}

// Listener is a TCP address that the MQTT server listens on.
type Listener struct {
	Address   string         // host:port, the host may be empty
	TLS       *TLS           // nil: none
	Websocket bool           // MQTT packets travel in WebSocket frames (MQTT 5 section 6)
	Origins   []string       // of the web pages that may connect to it (RFC 6454 section 6.2), in lower case; empty: all
	Proxies   []netip.Prefix // who connects for others, and begins with a PROXY header that says for whom; empty: nobody
}

// Plain says whether the listener's connections are MQTT over TCP and nothing between, as
// the kernel path needs it. A PROXY header at the beginning is no hindrance.
func (l *Listener) Plain() bool { return l.TLS == nil && !l.Websocket }

// TLS names a listener's certificate files, all by absolute paths.
type TLS struct {
	Cert, Key string
	ClientCA  string // who signs the certificates that clients must have; empty: they need none
	CRL       string // certificate revocation lists of those (RFC 5280 section 5); empty: none
	Username  string // which part of a client's certificate is its user name, one of the Username constants; empty: none
}

// Parts of a client's certificate that can be its user name.
const (
	UsernameCommonName = "common_name" // of the subject
	UsernameSubject    = "subject"     // the whole, as RFC 2253 writes it
	UsernameDNS        = "dns"         // the first of these subject alternative names
	UsernameEmail      = "email"
	UsernameURI        = "uri"
)

// Broker says which MQTT server serves what is not routed.
type Broker struct {
	Mode    string         // embedded; relay: those of Servers
	Servers []BrokerServer // no two of them equal
	CA      string         // absolute path of the authorities that TLS servers are verified by; empty: the system's
}

// Relay says whether clients are relayed to brokers.
func (b *Broker) Relay() bool { return b.Mode == "relay" }

// BrokerServer is a broker that clients are relayed to.
type BrokerServer struct {
	Address string // host:port
	TLS     bool
}

// Auth is who may do what.
type Auth struct {
	AllowAnonymous bool
	Users          []User
	PasswordFile   string // absolute path of more accounts, a line each: name:hash; empty: none
	JWT            *JWT   // tokens that are taken for passwords; nil: none
	HTTP           *Hook  // who is asked about everybody else; nil: nobody
	// Default is what those may do of whom nothing else is said: anonymous clients, and accounts that Users does not
	// have. Its name and hash are empty.
	Default User
	Deny    Deny
}

// JWT says which JSON Web Tokens (RFC 7519) clients may have instead of passwords.
type JWT struct {
	SecretFile    string // HS256; all by absolute paths; empty: none
	PublicKeyFile string // RS256, in PEM
	JWKSFile      string // RS256 and ES256 (RFC 7517)
	Issuer        string // what iss must be; empty: anything
	Audience      string // what must be in aud; empty: anything
	Username      string // the claim that is the user name
	Publish       string // claims that are filters, where a token has them
	Subscribe     string
}

// Hook is a service that is asked by HTTP who may connect.
type Hook struct {
	URL     *url.URL
	Timeout time.Duration // of one question
	Valid   time.Duration // of an answer; halfway it is asked again
}

// Files are those with keys.
func (j *JWT) Files() []string {
	var out []string
	for _, name := range []string{j.SecretFile, j.PublicKeyFile, j.JWKSFile} {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// Deny lists who is kept out, whatever its account may do.
type Deny struct {
	Addresses []netip.Prefix // of clients; IPv4 not mapped
	Clients   []string       // identifiers
}

// User is one account; %c in filters stands for the client id, %u for the user. nil stands for all topics in the lists
// of what is allowed, and for none in those of what is denied, which count more.
type User struct {
	Username      string
	PasswordHash  string // as passhash knows them; empty: a client is known by something else, or not at all
	Publish       []string
	Subscribe     []string
	DenyPublish   []string
	DenySubscribe []string
}

// PipelineAuto is a pipeline that follows what each pod was seen to do.
const PipelineAuto = -1

// Topologies: which pods of a function are preferred.
const (
	TopologyLocal = "prefer-local" // those on this node, as long as they can carry more
	TopologyAny   = "any"
)

// Function is an HTTP function with its pods.
type Function struct {
	Name        string
	URL         *url.URL // Host header and path
	Pods        []netip.AddrPort
	Identities  Identities       // of the pods whose sources tell them apart by more than their address
	Places      Places           // of the pods whose sources say where they are
	Hosts       []HostPort       // whose addresses are pods, too
	Discover    Discover         // where more pods are found
	Run         *Run             // instances that the loader starts, pods too; nil: none
	Drain       []netip.AddrPort // pods that get no messages, whoever names them
	Probe       string           // what a new pod is asked before it gets messages: ProbeTCP, a path, or empty: nothing
	Paused      bool             // its messages wait
	Topology    string           // one of the Topology constants; empty is TopologyLocal
	Concurrency int              // connections in use at a time per pod, 1 to 64
	Pipeline    int              // requests in flight per connection, 1 to 64, or PipelineAuto
	Timeout     time.Duration    // of one attempt, from its sending
	Deadline    time.Duration    // from a message's arrival until no attempt begins any more; at least Timeout
	Queue       Queue            // of its messages, on both paths
	Retry       Retry
	DeadLetter  *DeadLetter
	Headers     map[string]string // static
	ContentType string            // when the publisher names none
	CloudEvents CloudEvents
	Autoscaling Autoscaling // who scales it, and is told of its load
	Batch       *Batch      // its messages go together; nil: one by one
	Tracing     float64     // a message without a traceparent gets one, sampled by this probability; 0: none gets one
}

// Identities says which pod has an address, as its source tells pods apart (in Kubernetes the
// pod's UID). An address whose identity changes is another pod's.
type Identities map[netip.AddrPort]string

// Reused says whether an address that had one identity is another pod's with the other. An
// empty one is not known: it may be anybody.
func Reused(before, now string) bool { return before != now && before != "" && now != "" }

// Place is where a pod is, as its source says.
type Place int

// The places; Nowhere is not known.
const (
	Nowhere Place = iota
	ThisNode
	OtherNode
)

// Places says where pods are. Of those that are not in it the way to them tells.
type Places map[netip.AddrPort]Place

// Far says whether a pod is on another node; seen is what the way to it shows.
func (p Places) Far(pod netip.AddrPort, seen bool) bool {
	switch p[pod] {
	case ThisNode:
		return false
	case OtherNode:
		return true
	case Nowhere:
	}
	return seen
}

// ProbeTCP is the probe that a pod takes connections.
const ProbeTCP = "tcp"

// Discover names sources of a function's pods; empty: none.
type Discover struct {
	File    string // absolute path of a list of pods that somebody else writes
	DNS     HostPort
	Service Service
}

// Service is a Service of Kubernetes, whose EndpointSlices name the pods, or one of Knative, whose
// revisions have such Services.
type Service struct {
	Name      string // "": none
	Knative   bool
	Namespace string // "": that of the program's own pod, or of the kubeconfig's context
	Port      string // name or number, as the EndpointSlices have it; "": the only one, or http
}

func (s Service) String() string {
	name := s.Name
	if s.Namespace != "" {
		name = s.Namespace + "/" + name
	}
	if s.Knative {
		name = "Knative " + name
	}
	return name
}

// Kubernetes is how the API server is reached.
type Kubernetes struct {
	Kubeconfig string // absolute path; "": by the service account of the program's own pod
	Name       string // of this installation, in conditions; "": there is but one
	Routes     []RouteSource
}

// RouteSource is a namespace whose MQTTRoutes count beside the file's routes.
type RouteSource struct {
	Namespace string
	Topics    []string // filters that theirs must lie within
}

// Allows says whether a topic filter lies within those of the namespace.
func (s *RouteSource) Allows(filter string) bool { return coversAny(s.Topics, "", "", filter) }

// With is the configuration with more functions and routes, which must be of other
// names and filters than its own.
func (c *Config) With(functions []*Function, routes []*Route) *Config {
	out := *c
	out.Functions = append(slices.Clone(c.Functions), functions...)
	out.Routes = append(slices.Clone(c.Routes), routes...)
	out.keepCopies(routes)
	return &out
}

// Queue bounds what waits for a function in the kernel and what userspace holds for it, together: messages that
// wait, and those that userspace has under way.
type Queue struct {
	Messages int
	Bytes    int // of topics, payloads and properties
	Spool    *Spool
}

// Spool is where messages wait on disk for which there is no room in a queue, or whose time is over because their function does not serve.
type Spool struct {
	Dir   string // absolute path; the file in it is named after the function
	Bytes int64  // of messages
}

// Bounds of a Queue where nothing else is configured.
const (
	QueueMessages = 4096
	QueueBytes    = 16 << 20
)

// Retry says how often and how a message is tried.
type Retry struct {
	Attempts   int
	Backoff    time.Duration // before the second attempt, then doubled
	MaxBackoff time.Duration
	Final      []int // statuses after which a message is not tried again, ascending
}

// CloudEvents are a function's ce-type and the first part of its ce-source, and
// who decides what the ce-* headers say.
type CloudEvents struct {
	Type, Source string
	// FromPublisher lets a message's user properties replace ce-* headers; then
	// X-Mqtt-Client-Id says which client it came from.
	FromPublisher bool
	// Structured: the event is the body, as JSON (HTTP binding 1.0.2, section 3.2).
	Structured bool
}

// Route sends the messages of a topic filter to functions.
type Route struct {
	Topic      string   // filter as written
	Filter     string   // without $share/group/
	Functions  []string // at least one
	AlsoBroker bool     // subscribers get it as well
	Ordered    bool     // one in flight per client and route

	kept string // what has subscribers' copies beyond the server's memory, so that the kernel path must not answer for them; empty: nothing
}

// Metrics is what is served to people and machines that watch.
type Metrics struct {
	Listen    string // the Prometheus listener; empty: none
	Page      bool   // the page to look at, too
	TokenFile string // who knows what is in it sees the page; absolute path
}

// Limits are sizes that are fixed at start.
type Limits struct {
	Connections       int // devices in the kernel path
	Pods              int
	MaxPacketSize     int // bytes of one MQTT packet
	InflightPerClient int // messages of one client in the kernel path; up to UserspaceInflight of them also for each function in the fallback; 1 to 1024
	Routes            int
	Observed          int // connections to pods that monitoring follows
	Copies            int // bytes of the ring of copies for subscribers, at least
}

// UserspaceInflight is the most messages of one client that wait in userspace for one
// function: each costs far more there than in the kernel, and the rest waits in the
// client's connection.
const UserspaceInflight = 64
