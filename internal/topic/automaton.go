package topic

import (
	"fmt"
	"strings"

	"eproxy/internal/abi"
)

// Where matching starts; see Automaton.
const (
	RootNormal = 0
	RootDollar = 1 // for names that begin with '$'
)

// MaxLevel is the longest level, in bytes, that the kernel can look up.
const MaxLevel = abi.LevelMax

// None is the absence of a node.
const None = abi.NoIndex

// Automaton matches a name with one look-up per level, whatever the number of
// filters: the subset construction over the trie of filters. For each level of
// the name the next node is the edge with that level, else Plus. Where there
// is neither, the result is Hash of the node where it got stuck; when the name
// ends, it is Exact.
type Automaton struct {
	Nodes []Node
	Edges []Edge
	// Unsupported lists filters with a literal level longer than MaxLevel.
	// Names with such levels never reach the automaton.
	Unsupported []int
}

// Node is one state. Results are indexes of filters, -1 for none.
type Node struct {
	Plus  uint32
	Exact int32
	Hash  int32
}

// Edge leads from a node over one literal level.
type Edge struct {
	Node  uint32
	Level string
	Child uint32
}

// trieNode is a node of the filters' trie.
type trieNode struct {
	id       int
	children map[string]*trieNode
	plus     *trieNode
	exact    int // filter that ends here, or -1
	hash     int // filter that goes on with '#', or -1
}

// candidate is one way in which the levels so far can be matched: a place in
// the trie, or a '#' that matches whatever follows.
type candidate struct {
	node   *trieNode
	pinned int // filter, if node is nil
}

type compiler struct {
	nodes   int
	max     int
	a       *Automaton
	states  map[string]uint32
	pending []pendingState
}

type pendingState struct {
	id   uint32
	cand []candidate
}

// Compile builds the automaton of valid filters without $share. It fails if
// more than maxNodes states are needed, which only filters with many
// interleaved '+' cause.
func Compile(filters []string, maxNodes int) (*Automaton, error) {
	c := &compiler{max: maxNodes, a: &Automaton{}, states: make(map[string]uint32)}
	root := c.trieNode()
	for i, f := range filters {
		if !c.insert(root, f, i) {
			c.a.Unsupported = append(c.a.Unsupported, i)
		}
	}
	// Names that begin with '$' see only what does not begin with a wildcard.
	dollar := c.trieNode()
	dollar.children = root.children
	c.add([]candidate{{node: root}})
	c.add([]candidate{{node: dollar}})
	for len(c.pending) > 0 {
		p := c.pending[0]
		c.pending = c.pending[1:]
		if err := c.expand(p); err != nil {
			return nil, err
		}
	}
	return c.a, nil
}

func (c *compiler) trieNode() *trieNode {
	c.nodes++
	return &trieNode{id: c.nodes, children: make(map[string]*trieNode), exact: -1, hash: -1}
}

func (c *compiler) insert(n *trieNode, filter string, index int) bool {
	levels := strings.Split(filter, "/")
	for _, l := range levels {
		if len(l) > MaxLevel {
			return false
		}
	}
	for _, l := range levels {
		switch l {
		case "#":
			n.hash = index
			return true
		case "+":
			if n.plus == nil {
				n.plus = c.trieNode()
			}
			n = n.plus
		default:
			next := n.children[l]
			if next == nil {
				next = c.trieNode()
				n.children[l] = next
			}
			n = next
		}
	}
	n.exact = index
	return true
}

// add finds or makes the state of an ordered set of candidates.
func (c *compiler) add(cand []candidate) uint32 {
	var key strings.Builder
	for _, x := range cand {
		if x.node != nil {
			fmt.Fprintf(&key, "n%d,", x.node.id)
		} else {
			fmt.Fprintf(&key, "p%d,", x.pinned)
		}
	}
	if id, ok := c.states[key.String()]; ok {
		return id
	}
	id := uint32(len(c.a.Nodes))
	c.states[key.String()] = id
	c.a.Nodes = append(c.a.Nodes, Node{Plus: None, Exact: -1, Hash: -1})
	c.pending = append(c.pending, pendingState{id, cand})
	return id
}

// expand fills in a state: its results, and the states behind it.
func (c *compiler) expand(p pendingState) error {
	c.a.Nodes[p.id].Exact, c.a.Nodes[p.id].Hash = int32(exactOf(p.cand)), int32(hashOf(p.cand))
	literals := make(map[string]bool)
	for _, x := range p.cand {
		if x.node != nil {
			for l := range x.node.children {
				literals[l] = true
			}
		}
	}
	if other := step(p.cand, "").other; hasNode(other) {
		id := c.add(other) // may move the nodes
		c.a.Nodes[p.id].Plus = id
	}
	for l := range literals {
		child := c.add(step(p.cand, l).literal)
		c.a.Edges = append(c.a.Edges, Edge{Node: p.id, Level: l, Child: child})
	}
	if len(c.a.Nodes) > c.max {
		return fmt.Errorf("filters are too intertwined: more than %d states; use fewer '+' levels side by side", c.max)
	}
	return nil
}

type stepped struct{ literal, other []candidate }

// step moves every candidate over one level, in order of specificity: at each
// place first the literal, then '+', then '#', which matches all that follows.
func step(cand []candidate, level string) stepped {
	var s stepped
	for _, x := range cand {
		if x.node == nil {
			s.literal = append(s.literal, x)
			s.other = append(s.other, x)
			break // it always matches: nothing behind it can win
		}
		if child := x.node.children[level]; child != nil {
			s.literal = append(s.literal, candidate{node: child})
		}
		if x.node.plus != nil {
			s.literal = append(s.literal, candidate{node: x.node.plus})
			s.other = append(s.other, candidate{node: x.node.plus})
		}
		if x.node.hash >= 0 {
			pin := candidate{pinned: x.node.hash}
			s.literal = append(s.literal, pin)
			s.other = append(s.other, pin)
			break
		}
	}
	return s
}

func hasNode(cand []candidate) bool {
	for _, x := range cand {
		if x.node != nil {
			return true
		}
	}
	return false
}

// exactOf is the result if the name ends here.
func exactOf(cand []candidate) int {
	for _, x := range cand {
		switch {
		case x.node == nil:
			return x.pinned
		case x.node.exact >= 0:
			return x.node.exact
		case x.node.hash >= 0:
			return x.node.hash // "a/#" matches "a"
		}
	}
	return -1
}

// hashOf is the result if the name goes on and nothing but a '#' matches.
func hashOf(cand []candidate) int {
	for _, x := range cand {
		if x.node == nil {
			return x.pinned
		}
		if x.node.hash >= 0 {
			return x.node.hash
		}
	}
	return -1
}

// Lookup follows the automaton as the kernel does. Results are filter indexes,
// -1 for none.
func (a *Automaton) Lookup(name string) int {
	edges := make(map[Edge]uint32, len(a.Edges))
	for _, e := range a.Edges {
		edges[Edge{Node: e.Node, Level: e.Level}] = e.Child
	}
	at := uint32(RootNormal)
	if strings.HasPrefix(name, "$") {
		at = RootDollar
	}
	for _, l := range strings.Split(name, "/") {
		if child, ok := edges[Edge{Node: at, Level: l}]; ok {
			at = child
		} else if plus := a.Nodes[at].Plus; plus != None {
			at = plus
		} else {
			return int(a.Nodes[at].Hash)
		}
	}
	return int(a.Nodes[at].Exact)
}
