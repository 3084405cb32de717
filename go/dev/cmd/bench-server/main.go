// Command bench-server measures whole servers side by side: the unmodified Atlantis and the linked one in each mode. How long a
// start takes, what memory the idle server has, and how long the page of locks takes. In the folder go of the repository, after
// make atlantis and make atlantis-stock:
//
//	go run ./cmd/bench-server        # make bench-server; about 2 minutes; writes ../../bench/server.md
//
// The servers take turns in each round, so that whatever else the machine does hits all of them alike. Both programs are copied
// first, and read from the disk as after a boot: a file that was just written lies in the page cache in large pieces, of which a
// process has all in memory when it touches some, 20 MB more than it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

type options struct {
	linked, stock string
	out           string
	rounds        int
	locks         int
}

func main() {
	var o options
	flag.StringVar(&o.linked, "linked", "../../build/atlantis", "the linked server's program")
	flag.StringVar(&o.stock, "stock", "../../build/atlantis-stock", "the unmodified server's program")
	flag.StringVar(&o.out, "out", "../../bench/server.md", "the report")
	flag.IntVar(&o.rounds, "rounds", 9, "starts of each server")
	flag.IntVar(&o.locks, "locks", 10_000, "locks stored for the pages")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.locks < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	work, err := os.MkdirTemp("", "bench-server-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	copies := map[*string]string{&o.linked: "linked", &o.stock: "stock"}
	for program, name := range copies {
		text, err := os.ReadFile(*program)
		if err != nil {
			return fmt.Errorf("%w; build it by make atlantis and make atlantis-stock", err)
		}
		*program = filepath.Join(work, name)
		if err := writeUncached(*program, text); err != nil {
			return err
		}
	}
	place, err := newPlace(ctx, work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.close()) }()

	results, err := measure(ctx, o, place)
	if err != nil {
		return err
	}
	report := markdown(o, results)
	fmt.Print(report)
	return os.WriteFile(o.out, []byte(report), 0o644)
}

// writeUncached writes a program to the disk alone.
func writeUncached(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED))
	return errors.Join(err, file.Close())
}
