// Command bench measures atlock side by side with the lock stores of stock Atlantis, and judges the ratios by the project's
// budgets. In the folder go of the repository:
//
//	go run ./cmd/bench          # about 8 minutes; writes ../../bench/report.{json,md,svg}
//	go run ./cmd/bench -quick   # seconds; only shows that it works
//
// All subjects are open at once and take turns within each round, in an order shuffled by a printed seed, so that whatever
// else the machine does hits all of them alike. Every answer is checked: a wrong one fails the run. report.md says how to
// read the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if job, ok := childJob(); ok {
		exit(job.run())
	}
	s, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2) // the flag package has printed why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, s)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run measures everything and writes the report.
func run(ctx context.Context, s settings) error {
	fmt.Fprintf(os.Stderr, "seed %d; about %v and the time to fill the stores\n", s.seed, s.time)
	work, err := newWorkFolder(s.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	report, err := newReport(ctx, s, work)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(s.seed, 0))
	for _, size := range s.sizes {
		results, err := measureSize(ctx, s, work, size, random)
		if err != nil {
			return fmt.Errorf("with %d locks: %w", size, err)
		}
		report.Results = append(report.Results, results...)
	}
	if report.Memory, err = measureMemory(ctx, s, work, random); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	return report.write(s.out)
}

// newWorkFolder makes a folder of this run's own for all data, below parent.
func newWorkFolder(parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(parent, "bench-")
}
