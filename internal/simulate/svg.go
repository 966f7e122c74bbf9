package simulate

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
)

// Sizes of the drawing, in pixels.
const (
	panelWidth, panelHeight   = 560, 400
	panelLeft, panelTop       = 60, 40
	panelRight, panelBottom   = 140, 50
	labelHeight               = 12
	axisLow, axisHigh         = 0.01, 100.0 // percent, on a logarithmic scale
	plotWidth, plotHeight     = panelWidth - panelLeft - panelRight, panelHeight - panelTop - panelBottom
	colourOwn, colourRival    = "#c0392b", "#2c6fa6"
	colourReference, colourAt = "#999999", "#dddddd"
)

// position of a percentage along an axis, 0 to 1. What is below the axis lies at
// its end.
func position(v float64) float64 {
	return math.Log(min(max(v, axisLow), axisHigh)/axisLow) / math.Log(axisHigh/axisLow)
}

// dot is a policy in a panel.
type dot struct {
	x, y, label float64
	s           *Summary
}

// WriteSVG draws a panel for each class: cold starts against idle time, both in
// percent, of arrivals and of what always warm has, a dot a policy. own are the
// policies drawn as such.
func WriteSVG(w io.Writer, classes []string, all []*Summary, own []string) error {
	columns := 2
	lines := (len(classes) + columns - 1) / columns
	var err error
	put := func(format string, a ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, a...)
		}
	}
	put(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="10">`+"\n", columns*panelWidth, lines*panelHeight)
	put(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	for i, class := range classes {
		put(`<g transform="translate(%d,%d)">`+"\n", i%columns*panelWidth+panelLeft, i/columns*panelHeight+panelTop)
		drawAxes(put, class)
		for _, d := range dots(class, all) {
			colour := colourRival
			switch {
			case d.s.Reference:
				colour = colourReference
			case slices.Contains(own, d.s.Policy):
				colour = colourOwn
			}
			put(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, d.x, d.y, colour)
			put(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="0.5"/>`, d.x, d.y, d.x+8, d.label-3, colour)
			put(`<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", d.x+9, d.label, colour, html.EscapeString(d.s.Policy))
		}
		put("</g>\n")
	}
	put("</svg>\n")
	return err
}

func drawAxes(put func(string, ...any), class string) {
	put(`<text x="0" y="-16" font-size="13" font-weight="bold">%s</text>`+"\n", html.EscapeString(class))
	for v := axisLow; v <= axisHigh*1.01; v *= 10 {
		x, y := position(v)*plotWidth, (1-position(v))*plotHeight
		put(`<line x1="%.1f" y1="0" x2="%.1f" y2="%d" stroke="%s"/>`, x, x, plotHeight, colourAt)
		put(`<line x1="0" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`, y, plotWidth, y, colourAt)
		label := fmt.Sprintf("%.3g", v)
		if v == axisLow {
			label = "≤ " + label
		}
		put(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, x, plotHeight+14, label)
		put(`<text x="-6" y="%.1f" text-anchor="end">%s</text>`+"\n", y+3, label)
	}
	put(`<text x="%d" y="%d" text-anchor="middle">idle, %% of always warm</text>`, plotWidth/2, plotHeight+32)
	put(`<text transform="translate(-44,%d) rotate(-90)" text-anchor="middle">cold, %% of arrivals</text>`+"\n", plotHeight/2)
}

// dots of a class, with labels that do not cover each other.
func dots(class string, all []*Summary) (ds []dot) {
	warm := 0.0
	for _, s := range all {
		if s.Class == class {
			warm = max(warm, s.Idle.Seconds())
		}
	}
	for _, s := range all {
		if s.Class == class {
			ds = append(ds, dot{x: position(100*s.Idle.Seconds()/max(warm, 1e-9)) * plotWidth, y: (1 - position(100*s.ColdRate())) * plotHeight, s: s})
		}
	}
	slices.SortStableFunc(ds, func(a, b dot) int { return int(math.Copysign(1, a.y-b.y)) })
	for i := range ds {
		ds[i].label = ds[i].y + 3
		for j := range ds[:i] {
			if math.Abs(ds[j].x-ds[i].x) < 90 && ds[i].label < ds[j].label+labelHeight {
				ds[i].label = ds[j].label + labelHeight
			}
		}
	}
	return ds
}
