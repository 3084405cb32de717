package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/dev/internal/privateredis"
)

// freshKeys is how many keys are free and taken in turn. They come round again, as the projects of a repository do.
const freshKeys = 500

// session is one subject, open, with size locks stored.
type session struct {
	subject  subject
	size     int
	database db.Database
	server   *privateredis.Server // nil for a subject without Redis
	random   *rand.Rand
	version  int // of the next lock: no value is ever written twice
}

// openSession opens a subject on a fresh place below work and stores the locks. If it fails, nothing stays open.
func openSession(ctx context.Context, subject subject, work string, size int, seed uint64) (*session, error) {
	s := &session{subject: subject, size: size, random: rand.New(rand.NewPCG(seed, 1))}
	at, err := s.newPlace(ctx, work)
	if err == nil {
		s.database, err = subject.open(at)
	}
	if err == nil {
		err = s.fill(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", subject.name, err), s.close())
	}
	return s, nil
}

// newPlace makes a folder and, if the subject uses Redis, starts a server.
func (s *session) newPlace(ctx context.Context, work string) (place, error) {
	folder, err := os.MkdirTemp(work, "store-")
	if err != nil || !s.subject.usesRedis {
		return place{Folder: folder}, err
	}
	s.server, err = privateredis.Start(ctx, folder)
	if err != nil {
		return place{}, err
	}
	return place{Folder: folder, Redis: s.server.Address}, nil
}

func (s *session) close() error {
	var err error
	if s.database != nil {
		err = s.database.Close()
	}
	if s.server != nil {
		s.server.Stop()
	}
	return err
}

func (s *session) fill(ctx context.Context) error {
	if err := fill(ctx, s.database, s.size); err != nil {
		return err
	}
	s.version = s.size
	return nil
}

// fill stores the first locks, as many as count says.
func fill(ctx context.Context, database db.Database, count int) error {
	for i := range count {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := take(database, storedLock(i)); err != nil {
			return err
		}
	}
	return nil
}

// take takes a lock that is free.
func take(database db.Database, lock models.ProjectLock) error {
	acquired, current, err := database.TryLock(lock)
	return errors.Join(err, granted(acquired, current, lock))
}

// granted tells an error if a free lock was not granted.
func granted(acquired bool, current, lock models.ProjectLock) error {
	if !acquired {
		return fmt.Errorf("%s: free, but refused", keyOf(lock))
	}
	return same(&current, lock)
}

// release releases a held lock.
func release(database db.Database, lock models.ProjectLock) error {
	released, err := database.Unlock(lock.Project, lock.Workspace)
	return errors.Join(err, same(released, lock))
}

// anyStored is one of the stored locks.
func (s *session) anyStored() models.ProjectLock {
	return storedLock(s.random.IntN(s.size))
}

// fresh is a request for a free key, with a value of its own.
func (s *session) fresh() models.ProjectLock {
	version := s.nextVersion()
	key := version % freshKeys
	return newLock(key%repositories, fmt.Sprintf("fresh/%05d", key), firstFreshPull+version, version)
}

// freshPull are the requests of one pull that locks several projects.
func (s *session) freshPull() []models.ProjectLock {
	pull := firstFreshPull + s.nextVersion()
	locks := make([]models.ProjectLock, locksPerPull)
	for i := range locks {
		locks[i] = newLock(pull%repositories, fmt.Sprintf("pull/%05d", i), pull, s.nextVersion())
	}
	return locks
}

func (s *session) nextVersion() int {
	s.version++
	return s.version
}
