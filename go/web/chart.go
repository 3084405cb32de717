package web

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

// The chart's measures, in units of its viewBox.
const (
	chartWidth, plotHeight = 1120.0, 170.0
	chartLeft, chartRight  = 2.0, 1040.0
	stripTop, stripHeight  = plotHeight + 12, 10.0
	stripStep              = 16.0
	// column is the width in which the slowest of several samples stands for all of them.
	column = 3.0
)

// The scale is logarithmic: a healthy store answers in a fraction of a millisecond, and one that hangs after hundreds.
const leastMillis, mostMillis = 0.01, 1000.0

// spans are the lengths of the time axis: the shortest that has all samples.
var spans = []time.Duration{5 * time.Minute, 15 * time.Minute, sampleCount * sampleEvery}

// chart is both stores' latency over time as paths, with the times in which they did not answer, and those in which the local store
// decided, each as rectangles.
type chart struct {
	Width, Height       float64
	Left, Right, Bottom float64
	Lines               []line
	Ticks               []tick // of time
	Grid                []tick // of latency
	Fallbacks           []span
	Span                string
}

// line is one store.
type line struct {
	Name, Class string
	Path        string
	Strip       float64 // its top
	StripText   float64
	Up, Down    []span
}

// tick is a place with a text.
type tick struct {
	At     float64
	Text   string
	Anchor string // which end of the text stands there
}

// span is a part of the time axis.
type span struct{ X, Width float64 }

// newChart draws the samples, the oldest first, up to now.
func newChart(now time.Time, mode atlock.Mode, samples []sample, fallbacks []atlock.Fallback) chart {
	length := spans[len(spans)-1]
	for _, span := range slices.Backward(spans) {
		if len(samples) == 0 || now.Sub(samples[0].at) <= span {
			length = span
		}
	}
	start := now.Add(-length)
	place := func(at time.Time) float64 {
		part := float64(at.Sub(start)) / float64(length)
		return chartLeft + min(max(part, 0), 1)*(chartRight-chartLeft)
	}
	drawn := chart{Width: chartWidth, Left: chartLeft, Right: chartRight, Bottom: plotHeight, Span: fmt.Sprintf("last %s", short(length))}
	for millis := leastMillis; millis <= mostMillis; millis *= 10 {
		drawn.Grid = append(drawn.Grid, tick{At: heightOf(millis), Text: millisText(millis)})
	}
	// Each length is a multiple of five minutes.
	for fifths, anchor := range []string{"start", "middle", "middle", "middle", "middle", "end"} {
		at := start.Add(length * time.Duration(fifths) / 5)
		drawn.Ticks = append(drawn.Ticks, tick{At: place(at), Text: at.UTC().Format("15:04"), Anchor: anchor})
	}
	for _, fallback := range fallbacks {
		until := now
		if fallback.Until != 0 {
			until = fallback.Until.Time()
		}
		if until.After(start) {
			from := place(fallback.Since.Time())
			drawn.Fallbacks = append(drawn.Fallbacks, span{X: from, Width: max(place(until)-from, 2)})
		}
	}
	top := stripTop
	for _, store := range []struct {
		name, class string
		of          func(sample) measured
	}{
		{"Redis", "enhanced", func(s sample) measured { return s.enhanced }},
		{localName(mode), "legacy", func(s sample) measured { return s.legacy }},
	} {
		line := drawLine(samples, place, store.of)
		if len(line.Up)+len(line.Down) == 0 {
			continue
		}
		line.Name, line.Class, line.Strip, line.StripText = store.name, store.class, top, top+stripHeight-1
		drawn.Lines = append(drawn.Lines, line)
		top += stripStep
	}
	drawn.Height = top + 20
	return drawn
}

// drawLine draws one store: its latency while it answers, and whether it did.
func drawLine(samples []sample, place func(time.Time) float64, of func(sample) measured) (line line) {
	var path strings.Builder
	pen, x, slowest := "M", math.Inf(-1), 0.0
	flush := func() {
		if !math.IsInf(x, -1) {
			fmt.Fprintf(&path, "%s%.0f %.1f", pen, x, heightOf(slowest))
			pen = "L"
		}
		x, slowest = math.Inf(-1), 0
	}
	for i, sample := range samples {
		store := of(sample)
		if !store.used {
			flush()
			pen = "M"
			continue
		}
		at := place(sample.at)
		until := place(sample.at.Add(sampleEvery))
		if i+1 < len(samples) && samples[i+1].at.Sub(sample.at) < 3*sampleEvery {
			until = place(samples[i+1].at)
		}
		if !store.healthy {
			flush()
			pen = "M"
			line.Down = extend(line.Down, at, until)
			continue
		}
		line.Up = extend(line.Up, at, until)
		if at-x >= column {
			flush()
			x = at
		}
		slowest = max(slowest, store.millis)
	}
	flush()
	line.Path = path.String()
	return line
}

// extend lets the last span go on, if the new one begins where it ends.
func extend(drawn []span, from, until float64) []span {
	if last := len(drawn) - 1; last >= 0 && from-(drawn[last].X+drawn[last].Width) < 0.01 {
		drawn[last].Width = until - drawn[last].X
		return drawn
	}
	return append(drawn, span{X: from, Width: until - from})
}

// heightOf is where a latency stands.
func heightOf(millis float64) float64 {
	part := math.Log10(max(millis, leastMillis)/leastMillis) / math.Log10(mostMillis/leastMillis)
	return plotHeight - min(part, 1)*(plotHeight-10)
}

func millisText(millis float64) string {
	if millis >= 1000 {
		return fmt.Sprintf("%g s", millis/1000)
	}
	if millis >= 10 {
		return fmt.Sprintf("%.0f ms", millis)
	}
	return fmt.Sprintf("%.2g ms", millis)
}
