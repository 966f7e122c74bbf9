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
	b := &builder{file: name, cfg: &Config{file: name}, needs: needs, lines: make(map[string]int)}
	if root := b.tree(data); root != nil {
		var r raw
		b.decode(root, &r)
		if len(b.errs) == 0 {
			b.build(&r)
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
	needs []Need
	errs  Errors
	lines map[string]int // of every value, by YAML path

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
	if e.ContextMsg != "" && e.ContextMark.Line > 0 && e.ContextMark.Line != line {
		text += fmt.Sprintf(" %s that begins in line %d", e.ContextMsg, e.ContextMark.Line)
	}
	b.failAt(line, "not YAML: %s", text)
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

// fail notes an error at a YAML path such as "$.functions[0].url".
func (b *builder) fail(path, format string, args ...any) {
	b.failAt(b.line(path), format, args...)
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
