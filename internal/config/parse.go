package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Need is what a program needs of a configuration beyond what all of them need.
type Need int

// NeedInterfaces: a configuration without interfaces is an error.
const NeedInterfaces Need = iota + 1

// Load reads and validates a configuration file.
func Load(path string, needs ...Need) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data, needs...)
}

// Parse validates a configuration; name stands for the file in errors. The
// error is an Errors unless there is only one.
func Parse(name string, data []byte, needs ...Need) (*Config, error) {
	b := &builder{file: name, cfg: &Config{file: name, text: data}, needs: needs, lines: make(map[string]int),
		failed: make(map[string]bool), unknown: make(map[string]bool)}
	if root := b.tree(data); root != nil {
		b.decode(root, &b.raw)
		if b.expanded <= maxExpanded {
			b.decoded = true
			b.build(&b.raw)
		}
	}
	switch len(b.errs) {
	case 0:
		return b.cfg, nil
	case 1:
		return nil, b.errs[0]
	}
	return nil, b.errs.sorted()
}

// builder turns the file into a Config and collects what is wrong.
type builder struct {
	file  string
	cfg   *Config
	raw   raw
	needs []Need
	errs  Errors
	lines map[string]int // of every value, by YAML path

	decoded bool            // what is wrong from now on is so of what could be decoded
	failed  map[string]bool // values, by path, that could not be decoded
	unknown map[string]bool // paths of mappings with a key that is none: another may be missing for it

	aliases  int // that the value now decoded is reached by
	expanded int // values reached by aliases so far
}

// tree is the root of the file's only document; nil is an error that was noted.
func (b *builder) tree(data []byte) *yaml.Node {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}
	}
	if err == nil {
		if err = d.Decode(&next); err == nil {
			b.failAt(next.Line, "a second document: a configuration is one")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		b.syntax(data, err)
		return nil
	}
	return doc.Content[0]
}

// syntax notes an error of the YAML parser.
func (b *builder) syntax(data []byte, err error) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		b.failAt(1, "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	line, text := e.Mark.Line, e.Message
	if line == 0 {
		line = unreadable(data)
	}
	if tab := tabbed(data); tab > 0 && strings.Contains(text, "cannot start any token") {
		b.failAt(tab, "not YAML: a tab in the indentation, which may only be of blanks")
		return
	}
	if e.ContextMsg != "" && e.ContextMark.Line > 0 && e.ContextMark.Line != line {
		text += fmt.Sprintf(" %s that begins in line %d", e.ContextMsg, e.ContextMark.Line)
	}
	for _, of := range []string{"did not find expected key", "did not find expected '-' indicator", "mapping values are not allowed"} {
		if strings.Contains(text, of) {
			text += "; is this line, or the one before, indented as its neighbours?"
			break
		}
	}
	b.failAt(line, "not YAML: %s", text)
}

// tabbed is the first line that has a tab before its text, or 0.
func tabbed(data []byte) int {
	for i, line := range bytes.Split(data, []byte("\n")) {
		text := bytes.TrimLeft(line, " \t")
		if len(text) > 0 && text[0] != '#' && bytes.ContainsRune(line[:len(line)-len(text)], '\t') {
			return i + 1
		}
	}
	return 0
}

// unreadable is the line of the first character that YAML may not have.
func unreadable(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\r', r >= 0x7f && r < 0xa0:
			return line
		}
		data = data[n:]
	}
	return line
}

// fail notes an error at a YAML path such as "$.functions[0].url", unless it only
// follows from one that was noted when the file was decoded.
func (b *builder) fail(path, format string, args ...any) {
	if b.decoded && b.follows(path) {
		return
	}
	b.failAt(b.line(path), format, args...)
}

// follows says whether the value of a path, one above it or one in it could not be
// decoded, or whether it is missing where there is a key that is none.
func (b *builder) follows(path string) bool {
	for at := range b.failed {
		if within(at, path) || within(path, at) {
			return true
		}
	}
	return b.lines[path] == 0 && b.unknown[path[:max(strings.LastIndexAny(path, ".["), 0)]]
}

// within says whether a path is another one or leads into it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// failAt notes an error at a line.
func (b *builder) failAt(line int, format string, args ...any) {
	b.errs = append(b.errs, &Error{File: b.file, Line: max(line, 1), Message: fmt.Sprintf(format, args...)})
}

// line is where the value of a path stands, or the nearest one above it.
func (b *builder) line(path string) int {
	for {
		if n := b.lines[path]; n > 0 {
			return n
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut <= 0 {
			return 1
		}
		path = path[:cut]
	}
}
