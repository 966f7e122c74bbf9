// Package output prints rows as a table, JSON or YAML, with the same names and
// order each time.
package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v4"

	"eproxy/internal/cliutil"
)

// Rows are what a command shows. Columns are lower case with underscores; JSON
// and YAML use them as keys.
type Rows struct {
	Columns []string
	Rows    [][]any
}

// Add adds a row; one value per column. Of what is not known the value is nil: null, in a table "-".
func (r *Rows) Add(values ...any) { r.Rows = append(r.Rows, values) }

// Flag is the -o flag.
func Flag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print as `FORM`: table, json or yaml", Value: "table",
		Action: func(_ *cli.Context, form string) error { // before anything is read
			if form != "table" && form != "json" && form != "yaml" {
				return badForm(form)
			}
			return nil
		}}
}

func badForm(form string) error { return cliutil.Usagef("-o %q: must be table, json or yaml", form) }

// Print prints the rows in the form that the command's -o flag chose.
func (r *Rows) Print(c *cli.Context) error { return r.Write(c.App.Writer, c.String("output")) }

// Write prints the rows as table, json or yaml.
func (r *Rows) Write(w io.Writer, form string) error {
	switch form {
	case "table":
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, strings.ToUpper(strings.Join(r.Columns, "\t")))
		for _, row := range r.Rows {
			cells := make([]string, len(row))
			for i, v := range row {
				cells[i] = cell(v)
			}
			fmt.Fprintln(tw, strings.Join(cells, "\t"))
		}
		return tw.Flush()
	case "json":
		return r.json(w)
	case "yaml":
		return r.yaml(w)
	}
	return badForm(form)
}

// cell is a value as people read it: numbers without exponent.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return Printable(fmt.Sprint(v))
}

// Printable quotes text that a terminal would not show as it is: what a device names itself could otherwise move the cursor, or
// look like another row.
func Printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

// json keeps the columns' order, which encoding a map would not.
func (r *Rows) json(w io.Writer) error {
	var b strings.Builder
	b.WriteString("[")
	for i, row := range r.Rows {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n  {")
		for j, v := range row {
			if j > 0 {
				b.WriteString(", ")
			}
			val, err := json.Marshal(v)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%q: %s", r.Columns[j], val)
		}
		b.WriteString("}")
	}
	if len(r.Rows) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("]\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// yaml keeps the columns' order, likewise.
func (r *Rows) yaml(w io.Writer) error {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	if len(r.Rows) == 0 {
		list.Style = yaml.FlowStyle
	}
	for _, row := range r.Rows {
		m := &yaml.Node{Kind: yaml.MappingNode}
		for j, v := range row {
			var key, value yaml.Node
			if err := errors.Join(key.Encode(r.Columns[j]), value.Encode(v)); err != nil {
				return fmt.Errorf("encode %s: %w", r.Columns[j], err)
			}
			m.Content = append(m.Content, &key, &value)
		}
		list.Content = append(list.Content, m)
	}
	b, err := yaml.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode rows: %w", err)
	}
	_, err = w.Write(b)
	return err
}
