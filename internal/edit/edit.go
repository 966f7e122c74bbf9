package edit

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go.yaml.in/yaml/v4"
)

// Errors that wrap these say that there is nothing to change.
var (
	ErrAbsent  = errors.New("is not in the configuration")
	ErrPresent = errors.New("already")
)

// indent is by how many blanks a level of the text is indented.
const indent = 2

// Change is one change of a configuration's text.
type Change func(root *yaml.Node) error

// Apply makes a change in the text of a configuration. It does not change data.
func Apply(data []byte, c Change) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("the configuration is no mapping")
	}
	if err := c(doc.Content[0]); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(indent)
	if err := e.Encode(&doc); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), e.Close()
}

// AddPod has a function's list of pods name one more. One that is drained is drained no more,
// and goes into the list unless it is there, or known: a source of the function names it.
func AddPod(function, pod string, known bool) Change {
	return onFunction(function, func(fn *yaml.Node) error {
		undrained, err := take(fn, "drain", pod)
		if err != nil {
			return err
		}
		if undrained && known {
			return nil
		}
		pods, err := list(fn, "pods", true)
		switch {
		case err != nil:
			return err
		case !holds(pods, pod):
			pods.Content = append(pods.Content, text(pod))
		case !undrained:
			return fmt.Errorf("pod %s of function %s is in the configuration %w", pod, function, ErrPresent)
		}
		return nil
	})
}

// DrainPod has a pod get no more messages, whoever names it.
func DrainPod(function, pod string) Change {
	return onFunction(function, func(fn *yaml.Node) error {
		drained, err := list(fn, "drain", true)
		if err != nil {
			return err
		}
		if holds(drained, pod) {
			return fmt.Errorf("pod %s of function %s is drained %w", pod, function, ErrPresent)
		}
		drained.Content = append(drained.Content, text(pod))
		return nil
	})
}

// DeletePod has a function's list of pods name a pod no more.
func DeletePod(function, pod string) Change {
	return onFunction(function, func(fn *yaml.Node) error {
		there, err := take(fn, "pods", pod)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("pod %s of function %s %w: what a source names can be drained", pod, function, ErrAbsent)
		}
		_, err = take(fn, "drain", pod)
		return err
	})
}

// PauseFunction has a function's messages wait, or no more.
func PauseFunction(function string, on bool) Change {
	return onFunction(function, func(fn *yaml.Node) error {
		paused := false
		if old := get(fn, "paused"); old != nil && old.Decode(&paused) != nil {
			return fmt.Errorf("line %d: paused is written in a way that can only be edited by hand", old.Line)
		}
		if paused == on {
			return fmt.Errorf("function %s is %s %w", function, map[bool]string{true: "paused", false: "resumed"}[on], ErrPresent)
		}
		set(fn, "paused", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(on)})
		return nil
	})
}

// AddRoute routes one more topic filter to a function.
func AddRoute(topic, function string) Change {
	return func(root *yaml.Node) error {
		routes, err := list(root, "routes", true)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(routes.Content, func(r *yaml.Node) bool { return has(r, "topic", topic) && has(r, "function", function) }) {
			return fmt.Errorf("route %s to function %s is in the configuration %w", topic, function, ErrPresent)
		}
		r := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle}
		set(r, "topic", text(topic))
		set(r, "function", text(function))
		routes.Content = append(routes.Content, r)
		return nil
	}
}

// DeleteRoute removes the route of a topic filter.
func DeleteRoute(topic string) Change {
	return func(root *yaml.Node) error {
		routes, err := list(root, "routes", false)
		if err != nil {
			return err
		}
		if routes != nil {
			i := slices.IndexFunc(routes.Content, func(r *yaml.Node) bool { return has(r, "topic", topic) })
			if i >= 0 {
				routes.Content = slices.Delete(routes.Content, i, i+1)
				return nil
			}
		}
		return fmt.Errorf("route %s %w", topic, ErrAbsent)
	}
}

// onFunction is a change of one function.
func onFunction(name string, change func(fn *yaml.Node) error) Change {
	return func(root *yaml.Node) error {
		functions, err := list(root, "functions", false)
		if err != nil {
			return err
		}
		if functions != nil {
			for _, fn := range functions.Content {
				if has(fn, "name", name) {
					if fn.Anchor != "" {
						return fmt.Errorf("function %s is written with the anchor &%s, and others may change with it: edit the file", name, fn.Anchor)
					}
					return change(fn)
				}
			}
		}
		return fmt.Errorf("function %s %w", name, ErrAbsent)
	}
}

// get is the value of a mapping's key, nil if it has none.
func get(m *yaml.Node, key string) *yaml.Node {
	if m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// has says whether a mapping's key has a value.
func has(m *yaml.Node, key, value string) bool {
	v := get(m, key)
	return v != nil && v.Value == value
}

// set gives a mapping's key a value.
func set(m *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			value.LineComment = m.Content[i+1].LineComment
			m.Content[i+1] = value
			return
		}
	}
	m.Content = append(m.Content, text(key), value)
}

// list is the list that a mapping's key has; where there is none, a new one or nil. One
// that aliases stand for is not to be changed: others have it, too.
func list(m *yaml.Node, key string, make bool) (*yaml.Node, error) {
	n := get(m, key)
	switch {
	case n != nil && n.Kind == yaml.SequenceNode && n.Anchor == "":
		return n, nil
	case n != nil && n.ShortTag() != "!!null":
		return nil, fmt.Errorf("line %d: %s is written in a way that can only be edited by hand", n.Line, key)
	case !make:
		return nil, nil
	}
	n = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
	if key == "routes" {
		n.Style = 0
	}
	set(m, key, n)
	return n, nil
}

// holds says whether a list has a text.
func holds(l *yaml.Node, s string) bool {
	return slices.ContainsFunc(l.Content, func(n *yaml.Node) bool { return same(n.Value, s) })
}

// same says whether two texts are the same, or the same address.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, err := netip.ParseAddrPort(a)
	y, err2 := netip.ParseAddrPort(b)
	return err == nil && err2 == nil && x == y
}

// take removes a text from the list that a mapping's key has, and says whether it was there.
func take(m *yaml.Node, key, s string) (bool, error) {
	l, err := list(m, key, false)
	if err != nil || l == nil || !holds(l, s) {
		return false, err
	}
	l.Content = slices.DeleteFunc(l.Content, func(n *yaml.Node) bool { return same(n.Value, s) })
	return true, nil
}

// text is a scalar, quoted where it must be.
func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
