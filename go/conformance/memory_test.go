//go:build !atlantis_before_v0_46

package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

// memory is a database that keeps every promise of the suite. It proves that
// the promises do not contradict each other, and is what the faulty databases
// of broken_test.go are made from.
type memory struct {
	storage *memoryStorage
	closed  bool // guarded by storage.mutex
}

// memoryStorage outlives the databases that are opened on it.
type memoryStorage struct {
	mutex  sync.Mutex
	tables map[Table]map[string][]byte
}

func newMemoryStorage() *memoryStorage {
	return &memoryStorage{tables: map[Table]map[string][]byte{Locks: {}, Commands: {}, Pulls: {}, Foreign: {}}}
}

func (s *memoryStorage) Get(table Table, key string) (value []byte, found bool, err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	value, found = s.tables[table][key]
	return value, found, nil
}

func (s *memoryStorage) Put(table Table, key string, value []byte) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.tables[table][key] = bytes.Clone(value)
	return nil
}

// open moves old keys: those that are not what the value's fields give.
func (s *memoryStorage) open() *memory {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	locks := s.tables[Locks]
	for _, key := range slices.Collect(maps.Keys(locks)) {
		lock, err := decodeLock(locks[key])
		if err == nil && key == oldKey(*lock) {
			locks[keyOf(*lock)] = locks[key]
			delete(locks, key)
		}
	}
	return &memory{storage: s}
}

var errClosed = errors.New("database is closed")

// enter starts a call; leave ends it.
func (m *memory) enter() error {
	m.storage.mutex.Lock()
	if m.closed {
		m.storage.mutex.Unlock()
		return errClosed
	}
	return nil
}

func (m *memory) leave() { m.storage.mutex.Unlock() }

func (m *memory) locks() map[string][]byte { return m.storage.tables[Locks] }

func decodeLock(value []byte) (*models.ProjectLock, error) {
	var lock models.ProjectLock
	if err := json.Unmarshal(value, &lock); err != nil {
		return nil, fmt.Errorf("deserializing lock: %w", err)
	}
	return &lock, nil
}

// find returns the lock that a caller means by these fields: the one with the
// fields, or the one whose key Atlantis reads as these fields.
func (m *memory) find(project models.Project, workspace string) (*models.ProjectLock, error) {
	key := models.GenerateLockKey(project, workspace)
	value, found := m.locks()[key]
	if !found {
		return nil, nil
	}
	lock, err := decodeLock(value)
	if err != nil {
		return nil, err
	}
	if sameProject(*lock, project, workspace) {
		return lock, nil
	}
	read, err := locking.IsCurrentLocking(key)
	if err == nil && project.RepoFullName == read[1] && project.Path == read[2] && workspace == read[3] && release.ProjectName(project) == read[4] {
		return lock, nil
	}
	return nil, nil
}

func sameProject(lock models.ProjectLock, project models.Project, workspace string) bool {
	return lock.Project == project && lock.Workspace == workspace
}

func (m *memory) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return false, models.ProjectLock{}, err
	}
	defer m.leave()
	if value, found := m.locks()[keyOf(lock)]; found {
		holder, err := decodeLock(value)
		if err != nil {
			return false, models.ProjectLock{}, err
		}
		if isNamesake(*holder, lock) {
			return false, models.ProjectLock{}, errNamesake
		}
		return false, *holder, nil
	}
	value, err := json.Marshal(lock)
	if err != nil {
		return false, models.ProjectLock{}, err
	}
	m.locks()[keyOf(lock)] = value
	return true, lock, nil
}

var errNamesake = errors.New("another pull with the same number holds the lock")

// isNamesake tells whether two locks are of two pulls with one number.
func isNamesake(holder, asking models.ProjectLock) bool {
	one, other := holder.Pull.BaseRepo.VCSHost.Hostname, asking.Pull.BaseRepo.VCSHost.Hostname
	otherHost := one != "" && other != "" && !strings.EqualFold(one, other)
	return holder.Pull.Num == asking.Pull.Num && (otherHost || holder.Project.RepoFullName != asking.Project.RepoFullName)
}

func (m *memory) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	lock, err := m.find(project, workspace)
	if lock != nil {
		delete(m.locks(), keyOf(*lock))
	}
	return lock, err
}

func (m *memory) UnlockIfOwnedByPull(project models.Project, workspace string, pullNum int) (*models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	lock, err := m.find(project, workspace)
	if lock == nil || lock.Pull.Num != pullNum || !sameProject(*lock, project, workspace) {
		return nil, err
	}
	delete(m.locks(), keyOf(*lock))
	return lock, nil
}

func (m *memory) List() ([]models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	var locks []models.ProjectLock
	for _, value := range m.locks() {
		if lock, err := decodeLock(value); err == nil {
			locks = append(locks, *lock)
		}
	}
	return locks, nil
}

func (m *memory) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	lock, err := m.find(project, workspace)
	if lock != nil {
		lock.Time = lock.Time.Local()
	}
	return lock, err
}

func (m *memory) UnlockByPull(repo string, pullNum int) ([]models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	var locks []models.ProjectLock
	for key, value := range m.locks() {
		lock, err := decodeLock(value)
		if err == nil && lock.Project.RepoFullName == repo && lock.Pull.Num == pullNum {
			locks = append(locks, *lock)
			delete(m.locks(), key)
		}
	}
	return locks, nil
}

func (m *memory) LockCommand(name command.Name, at time.Time) (*command.Lock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	if _, found := m.storage.tables[Commands][name.String()]; found {
		return nil, errors.New(alreadyLockedText)
	}
	lock := commandLock(name, at)
	value, err := json.Marshal(lock)
	if err != nil {
		return nil, err
	}
	m.storage.tables[Commands][name.String()] = value
	return &lock, nil
}

func (m *memory) UnlockCommand(name command.Name) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	if _, found := m.storage.tables[Commands][name.String()]; !found {
		return errors.New(notLockedText)
	}
	delete(m.storage.tables[Commands], name.String())
	return nil
}

func (m *memory) CheckCommandLock(name command.Name) (*command.Lock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	value, found := m.storage.tables[Commands][name.String()]
	if !found {
		return nil, nil
	}
	var lock command.Lock
	return &lock, json.Unmarshal(value, &lock)
}

func (m *memory) Ping() error {
	if err := m.enter(); err != nil {
		return err
	}
	m.leave()
	return nil
}

func (m *memory) Close() error {
	m.storage.mutex.Lock()
	defer m.storage.mutex.Unlock()
	m.closed = true
	return nil
}

// memorySubject is the reference, or, with a wrapper, a database made from it.
func memorySubject(wrap func(*memory) release.Database) Subject {
	return Subject{
		Name: "memory",
		NewStore: func(*testing.T) Store {
			storage := newMemoryStorage()
			return Store{
				Open: func() (release.Database, error) { return wrap(storage.open()), nil },
				Raw:  storage,
			}
		},
		Capabilities: Persistent | RawBytes | ForeignKeys | CloseIsSafe | StableReads,
	}
}

func TestReferenceKeepsEveryPromise(t *testing.T) {
	Run(t, memorySubject(func(m *memory) release.Database { return m }))
}

func TestReferenceShared(t *testing.T) {
	RunShared(t, Pair{
		Name: "memory", A: "one", B: "other",
		NewStorage: func(*testing.T) SharedStorage {
			storage := newMemoryStorage()
			open := func() (release.Database, error) { return storage.open(), nil }
			return SharedStorage{OpenA: open, OpenB: open, Raw: storage}
		},
	})
}
