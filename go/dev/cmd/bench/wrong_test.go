package main

import (
	"context"
	"testing"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/models"
)

// Every operation fails on a database that answers wrongly in the way it should notice: no wrong answer is ever timed.
func TestWrongAnswersFail(t *testing.T) {
	liars := map[operationName][]func(db.Database) db.Database{
		tryLockFree:  {refuses, forgets},
		tryLockHeld:  {grants, forgets},
		getLock:      {losesUser, missesLock},
		unlock:       {missesLock, forgets},
		list:         {losesOne, repeatsOne},
		unlockByPull: {losesOne, repeatsOne},
		pairs:        {refuses, missesLock},
	}
	for _, operation := range operations {
		s := openForTest(t)
		if _, err := operation.batch(s, 3); err != nil {
			t.Errorf("%s fails on a database without fault: %v", operation.name, err)
		}
		honest := s.database
		for i, liar := range liars[operation.name] {
			s.database = liar(honest)
			if _, err := operation.batch(s, 3); err == nil {
				t.Errorf("%s does not notice liar %d", operation.name, i)
			}
		}
		s.database = honest
	}
}

// openForTest opens stock BoltDB with some locks stored.
func openForTest(t *testing.T) *session {
	t.Helper()
	subject, err := findSubject(stockBoltDB)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSession(context.Background(), subject, t.TempDir(), 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// liar is a database of which some methods answer wrongly.
type liar struct {
	db.Database
	tryLock func(acquired bool, current, request models.ProjectLock) (bool, models.ProjectLock)
	one     func(*models.ProjectLock) *models.ProjectLock
	many    func([]models.ProjectLock) []models.ProjectLock
}

func (l liar) TryLock(request models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := l.Database.TryLock(request)
	if l.tryLock != nil {
		acquired, current = l.tryLock(acquired, current, request)
	}
	return acquired, current, err
}

func (l liar) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := l.Database.GetLock(project, workspace)
	return l.changed(lock), err
}

func (l liar) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := l.Database.Unlock(project, workspace)
	return l.changed(lock), err
}

func (l liar) changed(lock *models.ProjectLock) *models.ProjectLock {
	if l.one == nil {
		return lock
	}
	return l.one(lock)
}

func (l liar) List() ([]models.ProjectLock, error) {
	locks, err := l.Database.List()
	return l.many(locks), err
}

func (l liar) UnlockByPull(repoFullName string, pullNum int) ([]models.ProjectLock, error) {
	locks, err := l.Database.UnlockByPull(repoFullName, pullNum)
	return l.many(locks), err
}

// refuses says of free locks that they are held.
func refuses(honest db.Database) db.Database {
	return liar{Database: honest, tryLock: func(_ bool, current, _ models.ProjectLock) (bool, models.ProjectLock) {
		return false, current
	}}
}

// grants says of held locks that they are free.
func grants(honest db.Database) db.Database {
	return liar{Database: honest, tryLock: func(_ bool, _, request models.ProjectLock) (bool, models.ProjectLock) {
		return true, request
	}}
}

// forgets answers with an empty lock.
func forgets(honest db.Database) db.Database {
	return liar{
		Database: honest,
		tryLock: func(acquired bool, _, _ models.ProjectLock) (bool, models.ProjectLock) {
			return acquired, models.ProjectLock{}
		},
		one: func(*models.ProjectLock) *models.ProjectLock { return &models.ProjectLock{} },
	}
}

// losesUser answers with a lock that lacks a field.
func losesUser(honest db.Database) db.Database {
	return liar{Database: honest, one: func(lock *models.ProjectLock) *models.ProjectLock {
		lock.User = models.User{}
		return lock
	}}
}

// missesLock finds no lock.
func missesLock(honest db.Database) db.Database {
	return liar{Database: honest, one: func(*models.ProjectLock) *models.ProjectLock { return nil }}
}

// losesOne leaves a lock out.
func losesOne(honest db.Database) db.Database {
	return liar{Database: honest, many: func(locks []models.ProjectLock) []models.ProjectLock { return locks[1:] }}
}

// repeatsOne has the right number of locks, one of them twice.
func repeatsOne(honest db.Database) db.Database {
	return liar{Database: honest, many: func(locks []models.ProjectLock) []models.ProjectLock {
		return append(locks[1:], locks[1])
	}}
}
