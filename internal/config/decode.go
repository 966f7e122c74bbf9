package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxExpanded is how many values aliases may stand for, counted where they are
// used: aliases of aliases make any number of few bytes.
const maxExpanded = 1 << 16

// shown is how much of a wrong value an error shows, in bytes.
const shown = 60

// decode fills the raw structs from the tree of a file and notes the line of
// every value. null is the same as leaving the key out.
func (b *builder) decode(root *yaml.Node, r *raw) {
	b.value("$", root, reflect.ValueOf(r).Elem())
	if b.expanded > maxExpanded {
		b.errs = Errors{{File: b.file, Line: 1, Message: fmt.Sprintf("aliases stand for more than %d values", maxExpanded)}}
	}
}

// resolve is what an alias stands for, or the node itself. end must be called
// when it is decoded; ok is false if aliases stand for too much.
func (b *builder) resolve(n *yaml.Node) (to *yaml.Node, ok bool, end func()) {
	before := b.aliases
	for ; n.Kind == yaml.AliasNode; n = n.Alias {
		b.aliases++
	}
	if b.aliases > 0 {
		b.expanded++
	}
	return n, b.expanded <= maxExpanded, func() { b.aliases = before }
}

// value decodes one value.
func (b *builder) value(path string, n *yaml.Node, v reflect.Value) {
	n, ok, end := b.resolve(n)
	defer end()
	if !ok {
		return
	}
	b.lines[path] = n.Line
	if n.ShortTag() == "!!null" {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		b.value(path, n, v.Elem())
	case reflect.Struct:
		if r, ok := v.Addr().Interface().(*rawInstances); ok && n.Kind == yaml.ScalarNode {
			b.value(path, n, reflect.ValueOf(&r.Min).Elem())
			r.Max = r.Min
			return
		}
		if r, ok := v.Addr().Interface().(*rawTracing); ok && n.Kind == yaml.ScalarNode {
			on := false
			b.value(path, n, reflect.ValueOf(&on).Elem())
			r.Off = !on
			return
		}
		b.mapping(path, n, func(key, at string, x *yaml.Node) {
			if f, ok := fieldFor(v, key); ok {
				b.value(at, x, f)
				return
			}
			b.unknown[path] = true
			b.fail(at, "%s: unknown key; known are %s", pretty(at), strings.Join(keys(v.Type()), ", "))
		})
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		b.mapping(path, n, func(key, at string, x *yaml.Node) {
			text := reflect.New(v.Type().Elem()).Elem()
			b.value(at, x, text)
			v.SetMapIndex(reflect.ValueOf(key), text)
		})
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			b.wanted(path, n, "a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, x := range n.Content {
			b.value(fmt.Sprintf("%s[%d]", path, i), x, v.Index(i))
		}
	default:
		b.scalar(path, n, v)
	}
}

// scalar decodes a value that has no parts.
func (b *builder) scalar(path string, n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if n.Kind != yaml.ScalarNode || !slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp"}, n.ShortTag()) {
			b.wanted(path, n, "text")
			return
		}
		v.SetString(n.Value) // as written: 1.10 is not 1.1
	case reflect.Bool:
		if n.ShortTag() != "!!bool" {
			b.wanted(path, n, "true or false")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 0, 64)
		if n.ShortTag() != "!!int" || err != nil {
			b.wanted(path, n, "a whole number")
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		x, err := strconv.ParseFloat(n.Value, 64)
		if tag := n.ShortTag(); tag != "!!int" && tag != "!!float" || err != nil {
			b.wanted(path, n, "a number")
			return
		}
		v.SetFloat(x)
	default:
		panic("config: no decoding of " + v.Kind().String()) // of a struct in raw.go
	}
}

// mapping calls f for each key of a mapping; merged ones (<<) come last, and only
// where the mapping does not have them itself.
func (b *builder) mapping(path string, n *yaml.Node, f func(key, at string, x *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		b.wanted(path, n, "keys with values")
		return
	}
	seen := make(map[string]int)
	b.entries(path, n, 0, seen, f)
}

// maxMerges is how deep merged mappings may merge others.
const maxMerges = 8

func (b *builder) entries(path string, n *yaml.Node, depth int, seen map[string]int, f func(key, at string, x *yaml.Node)) {
	own := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, x := n.Content[i], n.Content[i+1]
		if k.ShortTag() == "!!merge" {
			continue
		}
		if k.Kind != yaml.ScalarNode {
			b.unknown[path] = true
			b.failAt(k.Line, "%s: a key must be text", pretty(path))
			continue
		}
		at := path + "." + k.Value
		if first, dup := own[k.Value]; dup {
			b.failAt(k.Line, "%s is a duplicate of line %d", pretty(at), first)
			continue
		}
		own[k.Value] = k.Line
		if _, dup := seen[k.Value]; dup {
			continue
		}
		seen[k.Value] = k.Line
		b.lines[at] = k.Line
		f(k.Value, at, x)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() == "!!merge" {
			b.merge(path, n.Content[i+1], depth+1, seen, f)
		}
	}
}

// merge goes on with the mapping, or the list of mappings, that << names.
func (b *builder) merge(path string, n *yaml.Node, depth int, seen map[string]int, f func(key, at string, x *yaml.Node)) {
	n, ok, end := b.resolve(n)
	defer end()
	if !ok {
		return
	}
	switch {
	case n.Kind == yaml.MappingNode && depth <= maxMerges:
		b.entries(path, n, depth, seen, f)
	case n.Kind == yaml.SequenceNode && depth <= maxMerges:
		for _, x := range n.Content {
			b.merge(path, x, depth+1, seen, f)
		}
	default:
		b.failAt(n.Line, "%s: << must name a mapping or a list of them, no more than %d deep", pretty(path), maxMerges)
	}
}

// wanted notes that a value is not what its key needs.
func (b *builder) wanted(path string, n *yaml.Node, what string) {
	b.failed[path] = true
	b.failAt(n.Line, "%s: found %s, want %s", pretty(path), found(n), what)
}

// found describes a value.
func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	text := n.Value
	if len(text) > shown {
		text = text[:shown] + "..."
	}
	switch n.ShortTag() {
	case "!!str":
		return fmt.Sprintf("the text %q", text)
	case "!!int", "!!float", "!!bool", "!!timestamp":
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q with the tag %q", text, n.ShortTag())
}

// pretty is a path as users write it.
func pretty(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "$"), ".")
	if path == "" {
		return "the configuration"
	}
	if quoted := strconv.Quote(path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}

// fieldFor finds the field of a struct for a key.
func fieldFor(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if key != "" && v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keys are all keys of a struct.
func keys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			out = append(out, key)
		}
	}
	return out
}
