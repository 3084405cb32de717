package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

func markdown(o options, results []result) string {
	var out strings.Builder
	fmt.Fprintf(&out, `# The linked server beside the unmodified one

%s, %d cores, %d starts each, taking turns, in new data folders. Medians; above: of the differences to stock in the same round.
**Start** is from exec to the first answer of /healthz, polled every 20 ms. **Resident** is VmRSS one second later; **private** is the part
that is not of a file (RssAnon), which the kernel cannot take back. **Pages** are whole answers over HTTP with %d locks stored.

| server | start | above | resident | above | private | above | Atlantis's page | /locking |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
`, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), o.rounds, o.locks)
	stock := results[0]
	for _, r := range results {
		locking := "–"
		if len(r.locking) > 0 {
			locking = milliseconds(median(r.locking))
		}
		resident := median(r.resident)
		fmt.Fprintf(&out, "| %s | %s | %s | %.1f MB | %+.0f %% | %.1f MB | %+.1f MB | %s | %s |\n", r.name,
			milliseconds(median(r.start)), milliseconds(above(r.start, stock.start)),
			resident, 100*above(r.resident, stock.resident)/median(stock.resident),
			median(r.private), above(r.private, stock.private), milliseconds(median(r.index)), locking)
	}
	return out.String()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }

// above is the median difference in the same round.
func above[T time.Duration | float64](of, than []T) T {
	differences := make([]T, len(of))
	for i := range of {
		differences[i] = of[i] - than[i]
	}
	return median(differences)
}

func median[T cmp.Ordered](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
