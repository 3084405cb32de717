package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// markdown draws report.md.
func (r *report) markdown() []byte {
	var out bytes.Buffer
	r.writeHead(&out)
	for _, size := range r.Settings.Sizes {
		fmt.Fprintf(&out, "\n## %s locks stored\n", thousands(size))
		if size == budgetSize {
			r.writeBudgets(&out, size)
		} else {
			r.writeRatios(&out, size)
		}
		r.writeFigures(&out, size)
	}
	r.writeMemory(&out)
	return out.Bytes()
}

func (r *report) writeHead(out *bytes.Buffer) {
	m := r.Machine
	fmt.Fprintf(out, `# Benchmark

%s, commit %s, seed %d. %d cores of %s, Linux %s, data on %s, %s, Redis %s.

`, r.Date.Format(time.DateOnly), r.Commit, r.Settings.Seed, m.Cores, m.CPU, m.Kernel, m.FileSystem, m.Go, m.Redis)
	if m.FileSystem == tmpfs {
		out.WriteString("**The data was in memory, not on a disk: what the embedded stores took says nothing.**\n\n")
	}
	fmt.Fprintf(out, `All subjects ran interleaved in one process: in each round, each did a batch of the operation, in an order shuffled by the
seed. A **ratio** is the median over the rounds of (p50 of the subject's batch / p50 of its reference's batch in the same
round), so that drift of the machine cancels; in brackets the 95 %% confidence interval of that median. For times lower is
better, for pairs per second higher. p50 and p99 are of all samples of all rounds; p99 of fewer than 100 samples is their
maximum (report.json has the counts). Every answer was checked.

Each lock is %s bytes of JSON; the locks are spread over %d repositories, %d locks a pull. Every subject that uses Redis had an
identical private redis-server on 127.0.0.1, without persistence (no AOF, no RDB): what Redis would take to make a lock durable
is not in these figures. BoltDB and sled write to disk before they answer. "native" is alone on its Redis
(`+"`shared_with_stock: false`"+`), "native, shared" is the default, which also sees the locks of stock servers. "hybrid" has
sled as its local store, by durability, and is alone on its Redis, too; "in fallback" that is not there.

![Ratios to stock](report.svg)
`, thousands(r.Settings.ValueBytes), r.Settings.Repositories, r.Settings.LocksPerPull)
}

// writeBudgets writes the ratios of each subject beside the budgets.
func (r *report) writeBudgets(out *bytes.Buffer, size int) {
	for _, pair := range compared() {
		fmt.Fprintf(out, "\n### %s compared with %s\n\n", pair.subject, pair.reference)
		t := table{{"operation", "ratio", "budget", "verdict"}}
		for _, operation := range operations {
			c := r.findPair(size, operation.name, pair)
			t.add(string(operation.name), ratioText(c), budgetText(c, operation.unit), string(c.Verdict))
		}
		t.write(out)
	}
}

// writeRatios writes the ratios of all subjects in one table; there is no budget for them.
func (r *report) writeRatios(out *bytes.Buffer, size int) {
	out.WriteString("\nRatios (no budget):\n\n")
	header := []string{"operation"}
	for _, pair := range compared() {
		header = append(header, fmt.Sprintf("%s / %s", pair.subject, pair.reference))
	}
	t := table{header}
	for _, operation := range operations {
		row := []string{string(operation.name)}
		for _, pair := range compared() {
			row = append(row, ratioText(r.findPair(size, operation.name, pair)))
		}
		t.add(row...)
	}
	t.write(out)
}

// writeFigures writes the figures behind the ratios.
func (r *report) writeFigures(out *bytes.Buffer, size int) {
	out.WriteString("\np50 / p99 of each call; for pairs, the median over the rounds:\n\n")
	header := []string{"operation"}
	for _, subject := range subjects {
		header = append(header, string(subject.name))
	}
	t := table{header}
	for _, operation := range operations {
		row := []string{string(operation.name)}
		for _, subject := range subjects {
			row = append(row, figureText(r.find(size, operation.name, subject.name)))
		}
		t.add(row...)
	}
	t.write(out)
}

func (r *report) writeMemory(out *bytes.Buffer) {
	fmt.Fprintf(out, `
## Memory

Resident memory (VmRSS) of a process of its own that has the subject open, stored the locks, listed them once, and then did
nothing; median of several processes, in brackets the 95 %% confidence interval or, for fewer than six, the range. It is this
program, not an Atlantis server: so the budgets are for what comes on top of stock BoltDB (idle: 5 %% of a server's 38.5 MB),
and in hybrid mode with Redis for what comes on top of native. redis-server's own memory is not counted.

`)
	t := table{{"subject", "locks", "RSS", "above", "budget", "verdict"}}
	for _, m := range r.Memory {
		above, budget := "", ""
		if m.Above != nil {
			above = fmt.Sprintf("%s %+.1f MB", m.Reference, m.Above.Median)
		}
		if m.Budget != 0 {
			budget = fmt.Sprintf("≤ %.1f MB", m.Budget)
		}
		rss := fmt.Sprintf("%.1f MB (%.1f–%.1f)", m.RSS.Median, m.RSS.Low, m.RSS.High)
		t.add(string(m.Subject), thousands(m.Locks), rss, above, budget, string(m.Verdict))
	}
	t.write(out)
}

func ratioText(c comparison) string {
	return fmt.Sprintf("%s (%s–%s)", short(c.Ratio.Median), short(c.Ratio.Low), short(c.Ratio.High))
}

func budgetText(c comparison, of unit) string {
	switch {
	case c.Budget == 0:
		return ""
	case of == pairsPerSecond:
		return "≥ " + short(c.Budget)
	default:
		return "≤ " + short(c.Budget)
	}
}

func figureText(r result) string {
	if r.Unit == pairsPerSecond {
		return thousands(int(r.P50)) + " pairs/s"
	}
	return duration(r.P50) + " / " + duration(r.P99)
}

// short writes a ratio with three significant digits.
func short(ratio float64) string {
	switch {
	case ratio >= 100:
		return fmt.Sprintf("%.0f", ratio)
	case ratio >= 10:
		return fmt.Sprintf("%.1f", ratio)
	case ratio >= 0.1:
		return fmt.Sprintf("%.2f", ratio)
	default:
		return fmt.Sprintf("%.3f", ratio)
	}
}

// duration writes nanoseconds with three significant digits and a unit.
func duration(nanoseconds float64) string {
	switch {
	case nanoseconds >= 1e9:
		return fmt.Sprintf("%.2f s", nanoseconds/1e9)
	case nanoseconds >= 1e8:
		return fmt.Sprintf("%.0f ms", nanoseconds/1e6)
	case nanoseconds >= 1e6:
		return fmt.Sprintf("%.3g ms", nanoseconds/1e6)
	case nanoseconds >= 1e5:
		return fmt.Sprintf("%.0f µs", nanoseconds/1e3)
	default:
		return fmt.Sprintf("%.3g µs", nanoseconds/1e3)
	}
}

// thousands writes a number with separators.
func thousands(number int) string {
	if number < 1000 {
		return fmt.Sprint(number)
	}
	return fmt.Sprintf("%s,%03d", thousands(number/1000), number%1000)
}

// table is rows of cells; the first row is the header.
type table [][]string

func (t *table) add(cells ...string) { *t = append(*t, cells) }

// write writes the table, its first column aligned to the left and the others to the right.
func (t table) write(out *bytes.Buffer) {
	for i, row := range t {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(out, "|---|%s\n", strings.Repeat("--:|", len(row)-1))
		}
	}
}
