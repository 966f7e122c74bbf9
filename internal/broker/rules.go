package broker

import (
	"net/netip"
	"slices"
	"strings"

	"eproxy/internal/auth"
	"eproxy/internal/config"
	"eproxy/internal/topic"
)

// rules are what a reload can change: routes and permissions.
type rules struct {
	same     *byte // its own to all rules with the same routes
	auth     *config.Auth
	accounts *auth.Accounts
	routes   []*config.Route
	auto     *topic.Automaton
	edges    map[topic.Edge]uint32
	table    *topic.Table // for what the automaton does not hold

	functions map[string]*config.Function // by name
}

func newRules(cfg *config.Config) (*rules, error) {
	filters := make([]string, len(cfg.Routes))
	for i, r := range cfg.Routes {
		filters[i] = r.Filter
	}
	table, err := topic.NewTable(filters)
	if err != nil {
		return nil, err
	}
	accounts, err := auth.Load(&cfg.Auth)
	if err != nil {
		return nil, err
	}
	r := &rules{same: new(byte), auth: &cfg.Auth, accounts: accounts, routes: cfg.Routes, table: table, functions: make(map[string]*config.Function, len(cfg.Functions))}
	for _, f := range cfg.Functions {
		r.functions[f.Name] = f
	}
	// The same automaton as in the kernel, where it can be built.
	if auto, err := topic.Compile(filters, 1<<18); err == nil && len(auto.Unsupported) == 0 {
		r.auto = auto
		r.edges = make(map[topic.Edge]uint32, len(auto.Edges))
		for _, e := range auto.Edges {
			r.edges[topic.Edge{Node: e.Node, Level: e.Level}] = e.Child
		}
	}
	return r, nil
}

// reread are the same rules with the accounts as their files have them now.
func (r *rules) reread() (*rules, error) {
	accounts, err := auth.Load(r.auth)
	if err != nil {
		return nil, err
	}
	out := *r
	out.accounts = accounts
	return &out, nil
}

// route is the route of a topic name, or nil.
func (r *rules) route(name string) *config.Route {
	i := -1
	if r.auto != nil {
		i = r.follow(name)
	} else if n, ok := r.table.Lookup(name); ok {
		i = n
	}
	if i < 0 {
		return nil
	}
	return r.routes[i]
}

func (r *rules) follow(name string) int {
	at := uint32(topic.RootNormal)
	if strings.HasPrefix(name, "$") {
		at = topic.RootDollar
	}
	for l := range strings.SplitSeq(name, "/") {
		if child, ok := r.edges[topic.Edge{Node: at, Level: l}]; ok {
			at = child
		} else if plus := r.auto.Nodes[at].Plus; plus != topic.None {
			at = plus
		} else {
			return int(r.auto.Nodes[at].Hash)
		}
	}
	return int(r.auto.Nodes[at].Exact)
}

// denied says whether a client is on the list of those that are kept out, by its
// identifier or its address.
func (r *rules) denied(id Identity) bool {
	return slices.Contains(r.auth.Deny.Clients, id.ClientID) || r.deniedAddress(id.Remote.Addr())
}

func (r *rules) deniedAddress(a netip.Addr) bool {
	a = a.Unmap().WithZone("") // no prefix contains an address with a zone
	return slices.ContainsFunc(r.auth.Deny.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}
