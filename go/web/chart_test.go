package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atlock/atlock/go/atlock"
)

// A store that stops answering has a gap in its line, a red part in its strip, and the fallback's shade beside it.
func TestTheChart(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var samples []sample
	for i := range 13 {
		away := i >= 4 && i < 8
		samples = append(samples, sample{
			at:       now.Add(time.Duration(i-12) * sampleEvery),
			enhanced: measured{used: true, healthy: !away, millis: 1},
			legacy:   measured{used: true, healthy: true, millis: 0.1},
		})
	}
	since, until := atlock.UnixMicro(samples[4].at.UnixMicro()), atlock.UnixMicro(samples[8].at.UnixMicro())
	drawn := newChart(now, "hybrid", samples, []atlock.Fallback{
		{Since: 1, Until: 2, Cause: "long ago"}, {Since: since, Until: until}, {Since: until + 1},
	})
	if len(drawn.Lines) != 2 || drawn.Lines[0].Name != "Redis" || drawn.Lines[1].Name != "Local store" {
		t.Fatalf("the lines are %+v", drawn.Lines)
	}
	redis, local := drawn.Lines[0], drawn.Lines[1]
	if strings.Count(redis.Path, "M") != 2 || strings.Count(local.Path, "M") != 1 || strings.Count(local.Path, "L") != 12 {
		t.Errorf("the paths are %s and %s", redis.Path, local.Path)
	}
	if len(redis.Up) != 2 || len(redis.Down) != 1 || len(local.Up) != 1 || len(local.Down) != 0 {
		t.Errorf("the strips are %+v and %+v", redis, local)
	}
	if len(drawn.Fallbacks) != 2 || drawn.Fallbacks[0].X != redis.Down[0].X || drawn.Fallbacks[0].Width != redis.Down[0].Width {
		t.Errorf("the shades are %+v, the red part %+v", drawn.Fallbacks, redis.Down)
	}
	if end := drawn.Fallbacks[1]; end.X+end.Width != chartRight {
		t.Errorf("a fallback that goes on ends at %v", end.X+end.Width)
	}
	if drawn.Span != "last 5 min" || len(drawn.Ticks) != 6 || heightOf(1) >= heightOf(0.1) || heightOf(1e9) != heightOf(mostMillis) {
		t.Errorf("the axes are wrong: %q, %+v", drawn.Span, drawn.Ticks)
	}
}

// An hour is drawn in bounded space, and a slow moment is not lost between two columns.
func TestTheChartOfAnHour(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var samples []sample
	for i := range sampleCount {
		millis := 0.1
		if i == 100 {
			millis = 900
		}
		samples = append(samples, sample{at: now.Add(time.Duration(i-sampleCount+1) * sampleEvery), legacy: measured{used: true, healthy: true, millis: millis}})
	}
	drawn := newChart(now, "strict", samples, nil)
	if drawn.Span != "last 1 h" || len(drawn.Lines) != 1 || drawn.Lines[0].Name != "Lock store" {
		t.Fatalf("drawn: %q, %d lines", drawn.Span, len(drawn.Lines))
	}
	path := drawn.Lines[0].Path
	if points := strings.Count(path, "L"); points > int((chartRight-chartLeft)/column)+1 || points < 200 {
		t.Errorf("%d points", points)
	}
	if !strings.Contains(path, fmt.Sprintf(" %.1f", heightOf(900))) {
		t.Errorf("the slow moment is lost in %s", path)
	}
}
