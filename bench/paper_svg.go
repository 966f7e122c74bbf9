package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// Sizes of the drawings, in pixels.
const (
	drawWidth   = 760
	drawLeft    = 130
	drawRight   = 130
	drawTop     = 50
	drawBottom  = 40
	barHeight   = 18
	barStep     = 28
	curvesTall  = 360
	plotAcross  = drawWidth - drawLeft - drawRight
	labelSpread = 11 // between labels at the ends of curves
)

// Colours of components and of rows, in their order.
var (
	partColours = []string{"#9aa5b1", "#2c6fa6", "#c0392b", "#e08e2b", "#7d5ba6", "#3a3a3a", "#d9d9d9"}
	rowColours  = []string{"#3a3a3a", "#2c6fa6", "#c0392b", "#e08e2b", "#c9a227", "#7d5ba6", "#b78fd6", "#2e8b57", "#63b98a"}
)

// drawing writes SVG and keeps the first error.
type drawing struct {
	w   io.Writer
	err error
}

func (d *drawing) put(format string, a ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format+"\n", a...)
	}
}

func (d *drawing) begin(height int, title string) {
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`, drawWidth, height)
	d.put(`<rect width="100%%" height="100%%" fill="white"/>`)
	d.put(`<text x="%d" y="18" font-size="13" font-weight="bold">%s</text>`, 10, html.EscapeString(title))
}

func (d *drawing) end() error {
	d.put("</svg>")
	return d.err
}

// drawParts draws a bar for each row, divided by components.
func (p *paperResult) drawParts(w io.Writer) error {
	d := &drawing{w: w}
	d.begin(drawTop+len(p.Rows)*barStep+drawBottom/2, fmt.Sprintf("processor time per message, µs, at %.0f messages per second", p.Rate))
	most := 1.0
	for _, r := range p.Rows {
		if r.has() {
			most = max(most, r.median(chargedOf))
		}
	}
	parts := paperParts[:len(paperParts)-1] // other is not the chain's
	for i, part := range parts {
		d.put(`<rect x="%d" y="28" width="10" height="10" fill="%s"/><text x="%d" y="37">%s</text>`, drawLeft+i*90, partColours[i], drawLeft+14+i*90, part)
	}
	for i, r := range p.Rows {
		y := drawTop + i*barStep
		d.put(`<text x="%d" y="%d" text-anchor="end">%s</text>`, drawLeft-8, y+13, html.EscapeString(r.Name))
		if !r.has() {
			d.put(`<text x="%d" y="%d" fill="#999999">%s</text>`, drawLeft, y+13, html.EscapeString(r.Missing))
			continue
		}
		at := float64(drawLeft)
		for i, part := range parts {
			width := max(r.part(part), 0) / most * plotAcross
			d.put(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, at, y, width, barHeight, partColours[i])
			at += width
		}
		d.put(`<text x="%.1f" y="%d">%.0f</text>`, at+6, y+13, r.median(chargedOf))
	}
	return d.end()
}

// axis is a logarithmic one.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	return a.from + math.Log(min(max(v, a.low), a.high)/a.low)/math.Log(a.high/a.low)*(a.to-a.from)
}

// drawDelays draws a curve for each row: the median delay over the rate of messages that arrived.
func (p *paperResult) drawDelays(w io.Writer) error {
	d := &drawing{w: w}
	d.begin(drawTop+curvesTall+drawBottom, "delay from device to function, p50, over messages per second that arrived")
	x := axis{math.Inf(1), 0, drawLeft, drawLeft + plotAcross}
	y := axis{math.Inf(1), 0, drawTop + curvesTall, drawTop}
	for _, r := range p.Rows {
		for _, m := range r.Delays {
			x.low, x.high = min(x.low, m.Rate), max(x.high, m.Rate)
			y.low, y.high = min(y.low, m.P50), max(y.high, m.P50)
		}
	}
	if x.high <= x.low || y.high <= y.low {
		d.put(`<text x="%d" y="%d">not measured</text>`, drawLeft, drawTop+20)
		return d.end()
	}
	d.grid(x, y)
	var ends []float64
	for i, r := range p.Rows {
		if len(r.Delays) > 0 {
			ends = d.curve(r, x, y, rowColours[i%len(rowColours)], ends)
		}
	}
	return d.end()
}

// grid draws lines at powers of ten.
func (d *drawing) grid(x, y axis) {
	for v := math.Pow(10, math.Ceil(math.Log10(x.low))); v <= x.high; v *= 10 {
		d.put(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/><text x="%.1f" y="%d" text-anchor="middle">%.0f/s</text>`,
			x.at(v), drawTop, x.at(v), drawTop+curvesTall, x.at(v), drawTop+curvesTall+16, v)
	}
	for v := math.Pow(10, math.Ceil(math.Log10(y.low))); v <= y.high; v *= 10 {
		d.put(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/><text x="%d" y="%.1f" text-anchor="end">%.4g ms</text>`,
			drawLeft, y.at(v), drawLeft+plotAcross, y.at(v), drawLeft-8, y.at(v)+4, v/1000)
	}
}

// curve draws a row, and its name where no other stands.
func (d *drawing) curve(r *paperRow, x, y axis, colour string, ends []float64) []float64 {
	points := ""
	for _, m := range r.Delays {
		points += fmt.Sprintf("%.1f,%.1f ", x.at(m.Rate), y.at(m.P50))
		d.put(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x.at(m.Rate), y.at(m.P50), colour)
	}
	d.put(`<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, points, colour)
	last := r.Delays[len(r.Delays)-1]
	label := y.at(last.P50) + 4
	for i := 0; i < len(ends); i++ {
		if math.Abs(ends[i]-label) < labelSpread {
			label, i = ends[i]+labelSpread, -1 // look at all again
		}
	}
	d.put(`<line x1="%.1f" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="0.5" stroke-dasharray="2 2"/>`, x.at(last.Rate), y.at(last.P50), drawLeft+plotAcross+6, label-4, colour)
	d.put(`<text x="%d" y="%.1f" fill="%s">%s</text>`, drawLeft+plotAcross+8, label, colour, html.EscapeString(r.Name))
	return append(ends, label)
}
