package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// The plot's measures, in pixels.
const (
	plotWidth  = 1040
	plotLeft   = 290 // of the axis: operations and subjects stand before it
	plotRight  = 900 // of the axis: the figures stand behind it
	plotTop    = 110
	rowHeight  = 20
	groupSpace = 16
	axisSpace  = 50
)

// colours tell the subjects apart, also for colour-blind eyes (Okabe and Ito's palette).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

// plot draws report.svg: for the largest size, one row for each operation and subject, on a logarithmic axis of time compared
// with stock.
func (r *report) plot() []byte {
	size := r.largestSize()
	rows := r.plotRows(size)
	axis := newLogAxis(rows)
	bottom := rows[len(rows)-1].y + rowHeight

	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" `+
		`font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">
<rect width="100%%" height="100%%" fill="white"/>
`, plotWidth, bottom+axisSpace)
	writeText(&out, plotWidth/2, 28, `text-anchor="middle" font-size="18" font-weight="bold"`,
		fmt.Sprintf("Time compared with stock Atlantis, %s locks stored", thousands(size)))
	writeText(&out, plotWidth/2, 50, `text-anchor="middle"`, "1 is stock; further left is faster. For pairs per second: time per pair.")
	writeText(&out, plotWidth/2, 72, `text-anchor="middle" fill="#666"`,
		"dot: median over the rounds · line: 95 % confidence interval · black bar: budget, met if the dot is not right of it")
	axis.write(&out, bottom)
	for _, row := range rows {
		row.write(&out, axis)
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (r *report) largestSize() int {
	return settings{sizes: r.Settings.Sizes}.largest()
}

// plotRow is one subject in one operation.
type plotRow struct {
	heading string // the operation, before its first row
	label   string
	colour  string
	y       int
	time    estimate // compared with stock
	budget  float64  // 0: none
}

func (r *report) plotRows(size int) []plotRow {
	var rows []plotRow
	y := plotTop
	for _, operation := range operations {
		for i, pair := range comparedWithStock() {
			c := r.findPair(size, operation.name, pair)
			row := plotRow{label: string(pair.subject), colour: colours[i%len(colours)], y: y, time: c.Ratio, budget: c.Budget}
			if i == 0 {
				row.heading = string(operation.name)
			}
			if operation.unit == pairsPerSecond {
				row.invert()
			}
			rows = append(rows, row)
			y += rowHeight
		}
		y += groupSpace
	}
	return rows
}

// invert turns pairs per second into time per pair.
func (p *plotRow) invert() {
	p.time = estimate{Median: 1 / p.time.Median, Low: 1 / p.time.High, High: 1 / p.time.Low}
	if p.budget != 0 {
		p.budget = 1 / p.budget
	}
}

func (p *plotRow) write(out *bytes.Buffer, axis logAxis) {
	if p.heading != "" {
		writeText(out, 12, p.y+4, `font-weight="bold"`, p.heading)
	}
	writeText(out, plotLeft-12, p.y+4, fmt.Sprintf(`text-anchor="end" fill="%s"`, p.colour), p.label)
	figure, colour := "× "+short(p.time.Median), "#222"
	if p.budget != 0 {
		writeLine(out, axis.x(p.budget), p.y-8, axis.x(p.budget), p.y+8, `stroke="#222" stroke-width="3"`)
		figure += fmt.Sprintf(" (max %s)", short(p.budget))
	}
	if p.budget != 0 && p.time.Median > p.budget {
		colour = "#c00000"
	}
	writeLine(out, axis.x(p.time.Low), p.y, axis.x(p.time.High), p.y, fmt.Sprintf(`stroke="%s" stroke-width="2"`, p.colour))
	fmt.Fprintf(out, `<circle cx="%.1f" cy="%d" r="5" fill="%s"/>`+"\n", axis.x(p.time.Median), p.y, p.colour)
	writeText(out, plotRight+8, p.y+4, fmt.Sprintf(`fill="%s"`, colour), figure)
}

// logAxis maps ratios to pixels, logarithmically.
type logAxis struct {
	low, high float64 // common logarithms of its ends
}

// newLogAxis is wide enough for all rows and for stock's 1.
func newLogAxis(rows []plotRow) logAxis {
	const margin = 0.1
	axis := logAxis{low: -1}
	for _, row := range rows {
		axis.low = min(axis.low, math.Log10(row.time.Low))
		axis.high = max(axis.high, math.Log10(row.time.High))
		if row.budget != 0 {
			axis.low = min(axis.low, math.Log10(row.budget))
			axis.high = max(axis.high, math.Log10(row.budget))
		}
	}
	axis.low -= margin
	axis.high += margin
	return axis
}

func (a logAxis) x(ratio float64) float64 {
	share := (math.Log10(ratio) - a.low) / (a.high - a.low)
	return plotLeft + share*(plotRight-plotLeft)
}

// write draws the grid, with the line of stock in black.
func (a logAxis) write(out *bytes.Buffer, bottom int) {
	for exponent := math.Floor(a.low); exponent <= a.high; exponent++ {
		for digit := 1; digit < 10; digit++ {
			ratio := float64(digit) * math.Pow(10, exponent)
			if x := a.x(ratio); x >= plotLeft && x <= plotRight {
				writeTick(out, x, bottom, digit, ratio)
			}
		}
	}
	writeText(out, (plotLeft+plotRight)/2, bottom+40, `text-anchor="middle"`, "time / time of stock (logarithmic)")
}

func writeTick(out *bytes.Buffer, x float64, bottom, digit int, ratio float64) {
	stroke := "#eee"
	switch {
	case ratio == 1:
		stroke = "#222"
	case digit == 1:
		stroke = "#bbb"
	}
	writeLine(out, x, plotTop-rowHeight, x, bottom, fmt.Sprintf(`stroke="%s"`, stroke))
	if digit == 1 || digit == 3 {
		writeText(out, int(x), bottom+18, `text-anchor="middle" fill="#666"`, fmt.Sprintf("%.3g", ratio))
	}
}

func writeText(out *bytes.Buffer, x, y int, attributes, text string) {
	fmt.Fprintf(out, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(text))
}

func writeLine(out *bytes.Buffer, x1 float64, y1 int, x2 float64, y2 int, attributes string) {
	fmt.Fprintf(out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" %s/>`+"\n", x1, y1, x2, y2, attributes)
}
