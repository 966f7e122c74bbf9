package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads and validates a configuration file.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse validates a configuration; name stands for the file in errors. The
// error is an Errors unless there is only one.
func Parse(name string, data []byte) (*Config, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlError(name, err)
	}
	var r raw
	err = yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&r)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlError(name, err)
	}
	b := &builder{file: name, ast: file, cfg: &Config{}}
	b.build(&r)
	switch len(b.errs) {
	case 0:
		return b.cfg, nil
	case 1:
		return nil, b.errs[0]
	}
	return nil, b.errs.sorted()
}

// yamlError makes one line of an error of the decoder.
func yamlError(name string, err error) error {
	var ye yaml.Error
	if errors.As(err, &ye) {
		e := &Error{File: name, Message: ye.GetMessage()}
		if t := ye.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
			if t.Value != "" {
				e.Message += fmt.Sprintf(" (at %q)", t.Value)
			}
		}
		return e
	}
	return &Error{File: name, Message: err.Error()}
}

// builder turns the file into a Config and collects what is wrong.
type builder struct {
	file string
	ast  *ast.File
	cfg  *Config
	errs Errors
}

// fail notes an error at a YAML path such as "$.functions[0].url".
func (b *builder) fail(path, format string, args ...any) {
	b.errs = append(b.errs, &Error{File: b.file, Line: b.line(path), Message: fmt.Sprintf(format, args...)})
}

// line is where the value of a path stands, or the nearest one above it.
func (b *builder) line(path string) int {
	for path != "" {
		if p, err := yaml.PathString(path); err == nil {
			if n, err := p.FilterFile(b.ast); err == nil && n != nil && n.GetToken() != nil {
				return n.GetToken().Position.Line
			}
		}
		cut := lastAny(path, ".[")
		if cut <= 0 {
			return 1
		}
		path = path[:cut]
	}
	return 1
}

func lastAny(s, chars string) int {
	for i := len(s) - 1; i >= 0; i-- {
		for _, c := range chars {
			if rune(s[i]) == c {
				return i
			}
		}
	}
	return -1
}
