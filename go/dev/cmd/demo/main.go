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
	atlock string // the command, for what is printed
	folder string // everything that the demonstration writes
	port   int
	mode   string
	once   bool
}

const (
	modeEmbedded = "embedded"
	modeHybrid   = "hybrid"

	usualPort        = 4141
	lowestUnreserved = 1024 // below, a user needs a privilege
	highestPort      = 65535
)

func main() {
	var o options
	flag.StringVar(&o.server, "server", "build/atlantis", "the linked server's program")
	flag.StringVar(&o.atlock, "atlock", "target/release/atlock", "the command atlock, which is only named")
	flag.StringVar(&o.folder, "folder", "build/demo", "the folder for everything that is written; what an earlier demonstration left there is removed first")
	flag.IntVar(&o.port, "port", usualPort, "the server's port")
	flag.StringVar(&o.mode, "mode", modeEmbedded, "embedded: strict mode on the embedded store; hybrid: a private Redis, and a local store while that is away")
	flag.BoolVar(&o.once, "once", false, "go through everything once, and end")
	flag.Parse()
	if err := o.check(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
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

// check says what is wrong with the command line; rest is what is no option.
func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is no option: options begin with -, and -help lists them", rest[0])
	case o.mode != modeEmbedded && o.mode != modeHybrid:
		return fmt.Errorf("mode %q: choose %s (strict mode on the embedded store) or %s: make run MODE=%s", o.mode, modeEmbedded, modeHybrid, modeHybrid)
	case o.port < 1 || o.port > highestPort:
		return fmt.Errorf("port %d: choose one from 1 to %d: make run PORT=%d", o.port, highestPort, usualPort)
	}
	return nil
}

// explain adds what to do next to an error.
func explain(err error, o options) error {
	switch {
	case errors.Is(err, atlantis.ErrPortTaken):
		return fmt.Errorf("%w\nstop that program, or choose another port: make run PORT=%d", err, otherPort(o.port))
	case errors.Is(err, atlantis.ErrPortForbidden):
		return fmt.Errorf("%w\nchoose another port: make run PORT=%d", err, otherPort(o.port))
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w\nrun it as a user who may write there, or name another folder: build/atlantis-demo -folder=FOLDER", err)
	default:
		return err
	}
}

// otherPort suggests one; the Git host takes the next after it.
func otherPort(port int) int {
	if port += 100; port >= lowestUnreserved && port < highestPort {
		return port
	}
	return usualPort
}

func run(ctx context.Context, o options) (err error) {
	if err := atlantis.PortFree(o.port); err != nil {
		return err
	}
	if o.server, err = filepath.Abs(o.server); err != nil {
		return err
	}
	if _, err := os.Stat(o.server); err != nil {
		return fmt.Errorf("the server's program: %w\nbuild it: make atlantis", err)
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

// claim empties the folder, unless another demonstration uses it, or none ever did: then its files are somebody's. The lock file beside
// a folder stays there, and says that a demonstration made what is in the folder.
func claim(folder string) (path string, release func(), err error) {
	if path, err = filepath.Abs(folder); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", nil, err
	}
	lockFile := path + ".lock"
	if err := ours(path, lockFile); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
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

// ours fails when the folder has files, and no demonstration has made them.
func ours(path, lockFile string) error {
	if _, err := os.Stat(lockFile); err == nil {
		return nil
	}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s has files that no demonstration has made, and would be emptied: name an empty folder, or one that does not exist", path)
	}
	return nil
}
