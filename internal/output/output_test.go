package output

import (
	"strings"
	"testing"
)

func TestTableJSONYAML(t *testing.T) {
	r := Rows{Columns: []string{"topic", "n"}}
	r.Add("a/+", 3)
	r.Add("b \"x\"", 0)
	for form, want := range map[string]string{
		"table": "TOPIC  N\na/+    3\nb \"x\"  0\n",
		"json":  "[\n  {\"topic\": \"a/+\", \"n\": 3},\n  {\"topic\": \"b \\\"x\\\"\", \"n\": 0}\n]\n",
		"yaml":  "- topic: a/+\n  \"n\": 3\n- topic: b \"x\"\n  \"n\": 0\n",
	} {
		var b strings.Builder
		if err := r.Write(&b, form); err != nil || b.String() != want {
			t.Errorf("%s: %v\n%q\nwant\n%q", form, err, b.String(), want)
		}
	}
	if err := r.Write(nil, "xml"); err == nil {
		t.Error("xml accepted")
	}
}

// TestTableIsShownAsItIs: what a device names itself is neither another row nor an order to the terminal.
func TestTableIsShownAsItIs(t *testing.T) {
	r := Rows{Columns: []string{"client", "topic"}}
	r.Add("\x1b[2J", "a\nadmin  x")
	r.Add("a\tb\xff", "ü ☂ \"\\")
	r.Add("\u009b2J", "\u202ex")
	var b strings.Builder
	want := "CLIENT      TOPIC\n" + `"\x1b[2J"   "a\nadmin  x"` + "\n" + `"a\tb\xff"  ü ☂ "\` + "\n" + `"\u009b2J"  "\u202ex"` + "\n"
	if err := r.Write(&b, "table"); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
}

// TestNumbersAreWhole: bytes and counts of many are read by people, too.
func TestNumbersAreWhole(t *testing.T) {
	for v, want := range map[any]string{float64(4195608): "4195608", 0.25: "0.25", nil: "-", 7: "7", false: "false"} {
		if got := cell(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}
