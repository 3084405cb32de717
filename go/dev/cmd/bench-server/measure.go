package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/dev/internal/atlantis"
	"github.com/atlock/atlock/go/internal/freeport"
)

// idleFor is how long a server is left alone before its memory is read.
const idleFor = time.Second

// subject is a way to run a server.
type subject struct {
	name  string
	stock bool
	// file is the content of locking.yaml, with Redis's address for %s; empty for none.
	file string
}

var subjects = []subject{
	{name: "stock Atlantis", stock: true},
	{name: "linked, no settings"},
	{name: "strict (BoltDB)", file: "locking: {}"},
	{name: "strict (sled)", file: "locking: {backend: sled}"},
	{name: "hybrid (BoltDB)", file: "locking: {enhanced: {enabled: true, compatibility_mode: hybrid, redis: {address: '%s'}}}"},
	{name: "hybrid (sled)", file: "locking: {backend: sled, enhanced: {enabled: true, compatibility_mode: hybrid, redis: {address: '%s'}}}"},
	{name: "native", file: "locking: {enhanced: {enabled: true, compatibility_mode: native, redis: {address: '%s'}}}"},
}

// result is what was measured of a subject: one figure for each round.
type result struct {
	subject
	start          []time.Duration // from exec to the first answer, in a new data folder
	resident       []float64       // MB
	private        []float64       // MB: resident memory that is not of a file
	index, locking []time.Duration // Atlantis's own page, and /locking
	locks          int
}

func measure(ctx context.Context, o options, place *place) ([]result, error) {
	results := make([]result, len(subjects))
	for i, subject := range subjects {
		results[i].subject = subject
	}
	for round := range o.rounds {
		for i := range results {
			if err := results[i].idle(ctx, o, place); err != nil {
				return nil, fmt.Errorf("%s: %w", results[i].name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
	}
	for i := range results {
		if err := results[i].pages(ctx, o, place); err != nil {
			return nil, fmt.Errorf("%s: %w", results[i].name, err)
		}
	}
	return results, nil
}

// run starts a server, on what fill stores before, and stops it after what is done with it.
func (r *result) run(ctx context.Context, o options, place *place, fill func(db.Database) error, do func(*atlantis.Server) error) (err error) {
	if err := place.forget(ctx); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(place.work, "server-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	data := filepath.Join(folder, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	if r.file != "" {
		text := strings.ReplaceAll(r.file, "%s", place.redis.Address)
		if err := os.WriteFile(filepath.Join(data, "locking.yaml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if fill != nil {
		if err := r.fill(data, fill); err != nil {
			return err
		}
	}
	port, err := freeport.Take()
	if err != nil {
		return err
	}
	binary := o.linked
	if r.stock {
		binary = o.stock
	}
	began := time.Now()
	server, err := atlantis.Start(ctx, atlantis.Options{Binary: binary, Port: port, Folder: folder, GitHost: place.host.URL()})
	if err != nil {
		return err
	}
	if fill == nil {
		r.start = append(r.start, time.Since(began))
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	return do(server)
}

// fill stores locks as the server will find them.
func (r *result) fill(data string, fill func(db.Database) error) error {
	var database db.Database
	var err error
	if r.file == "" {
		database, err = boltdb.New(data)
	} else {
		var config atlock.Config
		defaults := atlock.Config{Locking: atlock.Locking{DataDir: filepath.Join(data, "atlock")}}
		if config, err = atlock.LoadConfigOver(defaults, filepath.Join(data, "locking.yaml")); err == nil {
			database, err = atlock.Open(config, atlock.WithBoltDB(data))
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(fill(database), database.Close())
}

func (r *result) idle(ctx context.Context, o options, place *place) error {
	return r.run(ctx, o, place, nil, func(server *atlantis.Server) error {
		time.Sleep(idleFor)
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", server.PID()))
		if err != nil {
			return err
		}
		for _, figure := range []struct {
			name string
			of   *[]float64
		}{{"VmRSS:", &r.resident}, {"RssAnon:", &r.private}} {
			_, rest, found := strings.Cut(string(text), figure.name)
			if !found {
				return fmt.Errorf("the kernel does not tell %s", figure.name)
			}
			kilobytes, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				return err
			}
			*figure.of = append(*figure.of, kilobytes*1024/1e6)
		}
		return nil
	})
}

// pages measures the pages with many locks stored.
func (r *result) pages(ctx context.Context, o options, place *place) error {
	fill := func(database db.Database) error {
		for i := range o.locks {
			lock := models.ProjectLock{
				Project:   models.NewProject(fmt.Sprintf("acme/infra%d", i%100), fmt.Sprintf("folder%d", i), ""),
				Workspace: "default",
				Pull:      models.PullRequest{Num: i % 50, URL: "https://git.example.org/acme/infra/pulls/1", Author: "ann"},
				User:      models.User{Username: "ann"},
				Time:      time.Now(),
			}
			if _, _, err := database.TryLock(lock); err != nil {
				return err
			}
		}
		return nil
	}
	return r.run(ctx, o, place, fill, func(server *atlantis.Server) error {
		locks, err := server.Locks(ctx)
		if err != nil {
			return err
		}
		if r.locks = len(locks); r.locks != o.locks {
			return fmt.Errorf("it has %d locks, want %d", r.locks, o.locks)
		}
		for range o.rounds {
			if err := timed(ctx, server, "/", &r.index); err != nil {
				return err
			}
			if r.file != "" {
				time.Sleep(pageAge)
				if err := timed(ctx, server, "/locking", &r.locking); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pageAge is longer than a page is given to others who ask for it: each is made anew.
const pageAge = 1100 * time.Millisecond

func timed(ctx context.Context, server *atlantis.Server, path string, took *[]time.Duration) error {
	began := time.Now()
	code, _, err := server.Get(ctx, path)
	if err == nil && code != 200 {
		err = fmt.Errorf("GET %s answered %d", path, code)
	}
	*took = append(*took, time.Since(began))
	return err
}
