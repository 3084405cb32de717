// Command githost runs the local stand-in for a Git host alone, beside an Atlantis that is started by hand:
//
//	githost -listen 127.0.0.1:3000 -atlantis http://127.0.0.1:4141
//	atlantis server --gitea-base-url=http://127.0.0.1:3000 --gitea-user=atlantis --gitea-token=any --repo-allowlist='*' …
//
// Its page is where it listens. What it keeps is gone when it ends, but for the repositories in its folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/atlock/atlock/go/dev/internal/githost"
)

func main() {
	options := githost.Options{Secret: os.Getenv("GITHOST_WEBHOOK_SECRET")}
	flag.StringVar(&options.Address, "listen", "127.0.0.1:3000", "where to listen; port 0 takes a free one")
	flag.StringVar(&options.Atlantis, "atlantis", "http://127.0.0.1:4141", "where Atlantis is; its webhooks go to /events there, signed if GITHOST_WEBHOOK_SECRET is set")
	flag.StringVar(&options.Bot, "user", "atlantis", "the user that Atlantis's token belongs to")
	flag.StringVar(&options.Folder, "folder", "", "where the repositories go; without it a temporary folder, removed at the end")
	repo := flag.String("repo", "acme/infra", "a repository to begin with")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(options, *repo); err != nil {
		fmt.Fprintln(os.Stderr, "githost:", err)
		os.Exit(1)
	}
}

func run(options githost.Options, repo string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if options.Folder == "" {
		folder, err := os.MkdirTemp("", "githost")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		options.Folder = folder
	}
	host, err := githost.Start(options)
	if err != nil {
		return err
	}
	if err := host.CreateRepository(ctx, repo, githost.ExampleFiles()); err != nil {
		_ = host.Close()
		return err
	}
	fmt.Printf("The Git host is at %s, its webhooks go to %s/events. Ctrl-C ends it.\n", host.URL(), options.Atlantis)
	<-ctx.Done()
	return host.Close()
}
