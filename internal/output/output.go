// Package output prints rows as a table, JSON or YAML, with the same names and
// order each time.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"eproxy/internal/cliutil"
)

// Rows are what a command shows. Columns are lower case with underscores; JSON
// and YAML use them as keys.
type Rows struct {
	Columns []string
	Rows    [][]any
}

// Add adds a row; one value per column.
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
				cells[i] = fmt.Sprint(v)
			}
			fmt.Fprintln(tw, strings.Join(cells, "\t"))
		}
		return tw.Flush()
	case "json":
		return r.json(w)
	case "yaml":
		b, err := yaml.MarshalWithOptions(r.maps(), yaml.IndentSequence(false))
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	return badForm(form)
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

func (r *Rows) maps() []yaml.MapSlice {
	out := make([]yaml.MapSlice, 0, len(r.Rows))
	for _, row := range r.Rows {
		var m yaml.MapSlice
		for j, v := range row {
			m = append(m, yaml.MapItem{Key: r.Columns[j], Value: v})
		}
		out = append(out, m)
	}
	return out
}
