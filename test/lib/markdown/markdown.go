// Package markdown reads what the documentation shows: fenced blocks and code in
// prose, for tests that try whether it is true.
//
// A fence says what it holds: sh (commands), yaml (a configuration), or text. An
// HTML comment in the line before may say more, see Block.Mark:
//
//	<!-- docs: part -->      the block is a part of a configuration; the keys of
//	                         the first level that it lacks are not shown
//	<!-- docs: other -->     the block is YAML of somebody else
//	<!-- docs: not run -->   the commands are looked up, but not run
package markdown

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Marks of blocks.
const (
	Part   = "part"
	Other  = "other"
	NotRun = "not run"
)

// Block is a fenced block.
type Block struct {
	Line int    // of the opening fence, from 1
	Lang string // what follows the fence
	Mark string // what a comment before it says; empty: nothing
	Text string // with a line end after each line
}

// Span is code in prose.
type Span struct {
	Line int
	Text string // in one line
}

// Document is one file.
type Document struct {
	Name   string
	Blocks []Block
	Spans  []Span
	Prose  string // without the blocks; empty lines stand for them
}

var (
	mark = regexp.MustCompile(`^<!-- docs: (.+) -->$`)
	code = regexp.MustCompile("`([^`]+)`")
)

// Read reads a file.
func Read(name string) (*Document, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	d := &Document{Name: name}
	if err := d.split(string(b)); err != nil {
		return nil, err
	}
	for _, m := range code.FindAllStringSubmatchIndex(d.Prose, -1) {
		text := strings.Join(strings.Fields(d.Prose[m[2]:m[3]]), " ")
		d.Spans = append(d.Spans, Span{Line: 1 + strings.Count(d.Prose[:m[0]], "\n"), Text: text})
	}
	return d, nil
}

// split takes blocks and prose apart.
func (d *Document) split(text string) error {
	var prose strings.Builder
	var open *Block
	last := ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		word, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case open == nil && fence:
			open = &Block{Line: n, Lang: word}
			if m := mark.FindStringSubmatch(last); m != nil {
				open.Mark = m[1]
			}
		case fence:
			d.Blocks = append(d.Blocks, *open)
			open = nil
		case open != nil:
			open.Text += line
		default:
			prose.WriteString(line)
		}
		if fence || open != nil {
			prose.WriteString("\n")
		}
		last = strings.TrimSpace(line)
	}
	if open != nil {
		return fmt.Errorf("%s:%d: block without an end", d.Name, open.Line)
	}
	d.Prose = prose.String()
	return nil
}

// Commands are the lines of a block of commands, without comments and sudo.
func (b *Block) Commands() []Span {
	var out []Span
	n := b.Line
	for line := range strings.Lines(b.Text) {
		n++
		text, _, _ := strings.Cut(line, " #")
		text = strings.TrimPrefix(strings.TrimSpace(text), "sudo ")
		if text != "" && !strings.HasPrefix(text, "#") {
			out = append(out, Span{Line: n, Text: text})
		}
	}
	return out
}

// Alternatives are the command lines that one with a|b in it stands for. Brackets
// around what may be left out are taken away.
func Alternatives(words []string) [][]string {
	lines := [][]string{nil}
	for _, w := range words {
		var next [][]string
		for choice := range strings.SplitSeq(strings.Trim(w, "[]"), "|") {
			for _, l := range lines {
				next = append(next, append(slices.Clone(l), choice))
			}
		}
		lines = next
	}
	return lines
}
