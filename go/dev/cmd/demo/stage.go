package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/dev/internal/githost"
	"github.com/atlock/atlock/go/dev/internal/privateredis"
)

const repo = "acme/infra"

// stage is all that runs: the Git host in this process, the server, and in hybrid mode a Redis.
type stage struct {
	options options
	host    *githost.Host
	redis   *privateredis.Server
	server  *atlantis.Server

	settings string // the server's settings file
}

func startStage(ctx context.Context, o options, folder string) (*stage, error) {
	s := &stage{options: o}
	if err := s.start(ctx, folder); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *stage) start(ctx context.Context, folder string) (err error) {
	secret := rand.Text()
	if s.host, err = startHost(s.options.port+1, githost.Options{
		Folder:   filepath.Join(folder, "repositories"),
		Bot:      atlantis.User,
		Secret:   secret,
		Atlantis: "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.options.port)),
	}); err != nil {
		return err
	}
	if err := s.host.CreateRepository(ctx, repo, githost.ExampleFiles()); err != nil {
		return err
	}
	fmt.Printf("The Git host is at   %s\n", s.host.URL())

	settings := fmt.Sprintf("locking:\n  backend: sled\n  data_dir: %q\n  enhanced:\n    priority_queue: {enabled: true, replan: auto}\n", filepath.Join(folder, "locks"))
	if s.options.mode == modeHybrid {
		if s.redis, err = privateredis.Start(ctx, filepath.Join(folder, "redis"), "--appendonly", "yes"); err != nil {
			return err
		}
		fmt.Printf("Redis is at          %s, process %d\n", s.redis.Address, s.redis.PID())
		settings += fmt.Sprintf("    enabled: true\n    compatibility_mode: hybrid\n    redis: {address: %q}\n", s.redis.Address)
	}
	s.settings = filepath.Join(folder, "locking.yaml")
	if err := os.WriteFile(s.settings, []byte(settings), 0o600); err != nil {
		return err
	}
	fmt.Println("Atlantis starts.")
	defer patiently("Atlantis starts")()
	if s.server, err = atlantis.Start(ctx, atlantis.Options{
		Binary:        s.options.server,
		Port:          s.options.port,
		Folder:        folder,
		GitHost:       s.host.URL(),
		WebhookSecret: secret,
		Args:          []string{"--locking-config=" + s.settings},
	}); err != nil {
		return err
	}
	mode := "strict mode on the embedded store"
	if s.options.mode == modeHybrid {
		mode = "hybrid mode"
	}
	fmt.Printf("Atlantis is at       %s, process %d, in %s, with these settings in %s:\n", s.server.URL(), s.server.PID(), mode, s.relative(s.settings))
	fmt.Print(indent(settings))
	return nil
}

// startHost listens on the port, or, if that is taken, on any: nothing else depends on it.
func startHost(port int, options githost.Options) (*githost.Host, error) {
	options.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	host, err := githost.Start(options)
	if err != nil {
		options.Address = "127.0.0.1:0"
		host, err = githost.Start(options)
	}
	return host, err
}

// stop ends all, the server first: it may still have something to write.
func (s *stage) stop() (err error) {
	if s.server != nil {
		err = s.server.Stop()
	}
	if s.redis != nil {
		s.redis.Stop()
	}
	if s.host != nil {
		err = errors.Join(err, s.host.Close())
	}
	return err
}

// relative is a path as a person would type it here.
func (s *stage) relative(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if relative, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(relative) {
		return relative
	}
	return path
}
