// Command demo runs a real Atlantis server with atlock inside, beside a stand-in for a Git host and one for terraform, so that
// a newcomer sees a webhook, a clone, a plan and a lock without any account. `make run` builds the server and calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
)

// options are the command line's.
type options struct {
	server string // the linked server's program
	folder string // everything that the demonstration writes
	port   int
	mode   string
	once   bool
}

const (
	modeEmbedded = "embedded"
	modeHybrid   = "hybrid"
)

func main() {
	var o options
	flag.StringVar(&o.server, "server", "build/atlantis", "the linked server's program")
	flag.StringVar(&o.folder, "folder", "build/demo", "the folder for everything that is written; what is in it is removed first")
	flag.IntVar(&o.port, "port", 4141, "the server's port")
	flag.StringVar(&o.mode, "mode", modeEmbedded, "embedded: the embedded store; hybrid: a private Redis, and the embedded store when that fails")
	flag.BoolVar(&o.once, "once", false, "go through everything once, and end")
	flag.Parse()
	if flag.NArg() > 0 || (o.mode != modeEmbedded && o.mode != modeHybrid) {
		flag.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends this process at once, and the kernel the others with it
	err := run(ctx, o)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // Ctrl-C is how it ends
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", explain(err, o))
		os.Exit(1)
	}
}

// explain adds what to do next to an error.
func explain(err error, o options) error {
	switch {
	case errors.Is(err, atlantis.ErrPortTaken):
		return fmt.Errorf("%w\nstop that program, or choose another port: make run PORT=%d", err, otherPort(o.port))
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w\nis the server built? make atlantis", err)
	default:
		return err
	}
}

// otherPort suggests one; the Git host takes the next after it.
func otherPort(port int) int {
	if port += 100; port < 65535 {
		return port
	}
	return 4141
}

func run(ctx context.Context, o options) (err error) {
	if err := atlantis.PortFree(o.port); err != nil {
		return err
	}
	if o.server, err = filepath.Abs(o.server); err != nil {
		return err
	}
	if _, err := os.Stat(o.server); err != nil {
		return err
	}
	folder, release, err := claim(o.folder)
	if err != nil {
		return err
	}
	defer release()

	s, err := startStage(ctx, o, folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if s.redis != nil && !o.once {
		fmt.Println("\nAt any time: k and Enter kill Redis, r and Enter bring it back.")
		watching, cancel := context.WithCancel(ctx)
		var watcher sync.WaitGroup
		watcher.Go(func() { s.watch(watching) })
		defer func() { cancel(); watcher.Wait() }()
	}
	if err := s.walk(ctx); err != nil {
		return err
	}
	if o.once {
		return s.walkOn(ctx)
	}
	s.printLinks()
	return s.serve(ctx)
}

// claim empties the folder, unless another demonstration uses it.
func claim(folder string) (path string, release func(), err error) {
	if path, err = filepath.Abs(folder); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = lock.Close() }
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		release()
		return "", nil, fmt.Errorf("another demonstration runs in %s; stop that one first: %w", path, err)
	}
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o755)); err != nil {
		release()
		return "", nil, err
	}
	return path, release, nil
}
