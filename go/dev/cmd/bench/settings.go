package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// settings are how long and on what a run measures.
type settings struct {
	out   string
	dir   string
	seed  uint64
	sizes []int // numbers of locks stored

	time          time.Duration // for all rounds together; filling the stores and measuring memory come on top
	minRounds     int           // counted rounds of an operation, however long they take
	memoryRepeats int           // processes per memory figure
	memoryLocks   int           // locks stored in the larger of the two memory figures
	settle        time.Duration // how long a process is left alone before its memory is read
}

var (
	fullSettings = settings{
		sizes:         []int{10, 1_000, budgetSize},
		time:          6 * time.Minute,
		minRounds:     10,
		memoryRepeats: 5,
		memoryLocks:   memoryBudgetLocks,
		settle:        300 * time.Millisecond,
	}
	quickSettings = settings{
		sizes:         []int{10, 100},
		time:          2 * time.Second,
		minRounds:     2,
		memoryRepeats: 1,
		memoryLocks:   10,
		settle:        20 * time.Millisecond,
	}
)

func parseFlags(arguments []string) (settings, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	out := flags.String("out", "../../bench", "`folder` for report.json, report.md and report.svg")
	dir := flags.String("dir", "../../build", "`folder` for the stores' data: on the kind of disk that the figures are to speak of")
	seed := flags.Uint64("seed", rand.Uint64N(1_000_000), "`number` that decides every shuffle")
	limit := flags.Duration("time", 0, "`duration` of all rounds together (default 6m, with -quick 2s)")
	sizes := flags.String("sizes", "", "numbers of locks stored, `N,N,…` (default 10,1000,10000)")
	quick := flags.Bool("quick", false, "a few rounds on small stores: shows that the benchmark works, not how fast anything is")
	if err := flags.Parse(arguments); err != nil {
		return settings{}, err
	}
	s := fullSettings
	if *quick {
		s = quickSettings
	}
	s.out, s.dir, s.seed = *out, *dir, *seed
	if *limit > 0 {
		s.time = *limit
	}
	if *sizes != "" {
		parsed, err := parseSizes(*sizes)
		if err != nil {
			fmt.Fprintln(flags.Output(), err)
			return settings{}, err
		}
		s.sizes = parsed
	}
	return s, nil
}

func parseSizes(list string) ([]int, error) {
	var sizes []int
	for text := range strings.SplitSeq(list, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || size < 1 {
			return nil, fmt.Errorf("-sizes: %q is not a number of locks", text)
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// timePerOperation is one operation's share of the time at one size. The largest size, which the budgets are about, gets half.
func (s settings) timePerOperation(size int) time.Duration {
	share := s.time
	if others := len(s.sizes) - 1; others > 0 {
		share /= 2
		if size != s.largest() {
			share /= time.Duration(others)
		}
	}
	return share / time.Duration(len(operations))
}

func (s settings) largest() int {
	largest := 0
	for _, size := range s.sizes {
		largest = max(largest, size)
	}
	return largest
}
