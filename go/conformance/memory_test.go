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

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// memory is a database that keeps every promise of the suite. It proves that
// the promises do not contradict each other, and is what the faulty databases
// of self_test.go are made from.
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
	if err == nil && project.RepoFullName == read[1] && project.Path == read[2] && workspace == read[3] && project.ProjectName == read[4] {
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

// withPullStatus calls a function with the entry of a pull, while no other call runs.
func (m *memory) withPullStatus(pull models.PullRequest, act func(*pullEntry) error) error {
	const separator = "::"
	host, repo := pull.BaseRepo.VCSHost.Hostname, pull.BaseRepo.FullName
	if strings.Contains(host, separator) {
		return fmt.Errorf("vcs hostname %q contains illegal string %q", host, separator)
	}
	if strings.Contains(repo, separator) {
		return fmt.Errorf("repo name %q contains illegal string %q", host, separator)
	}
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return act(&pullEntry{m.storage.tables[Pulls], pullKey(pull)})
}

// pullEntry is the stored status of one pull.
type pullEntry struct {
	table map[string][]byte
	key   string
}

func (e *pullEntry) get() (*models.PullStatus, error) {
	value, found := e.table[e.key]
	if !found {
		return nil, nil
	}
	var status models.PullStatus
	if err := json.Unmarshal(value, &status); err != nil {
		return nil, fmt.Errorf("deserializing pull: %w", err)
	}
	return &status, nil
}

func (e *pullEntry) set(status models.PullStatus) error {
	value, err := json.Marshal(status)
	if err == nil {
		e.table[e.key] = value
	}
	return err
}

func (m *memory) UpdateProjectStatus(pull models.PullRequest, workspace, dir string, newStatus models.ProjectPlanStatus) error {
	return m.withPullStatus(pull, func(entry *pullEntry) error {
		status, err := entry.get()
		if err != nil || status == nil {
			return err
		}
		for i, project := range status.Projects {
			if project.Workspace == workspace && project.RepoRelDir == dir {
				status.Projects[i].Status = newStatus
				break
			}
		}
		return entry.set(*status)
	})
}

func (m *memory) GetPullStatus(pull models.PullRequest) (status *models.PullStatus, err error) {
	err = m.withPullStatus(pull, func(entry *pullEntry) (err error) {
		status, err = entry.get()
		return err
	})
	return status, err
}

func (m *memory) DeletePullStatus(pull models.PullRequest) error {
	return m.withPullStatus(pull, func(entry *pullEntry) error {
		delete(entry.table, entry.key)
		return nil
	})
}

func (m *memory) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (status models.PullStatus, err error) {
	err = m.withPullStatus(pull, func(entry *pullEntry) error {
		before, err := entry.get()
		if err != nil {
			before = nil // an unreadable entry is replaced
		}
		status = merge(before, pull, results)
		return entry.set(status)
	})
	return status, err
}

// merge is the rule by which results change a pull's status.
func merge(before *models.PullStatus, pull models.PullRequest, results []command.ProjectResult) models.PullStatus {
	current := before != nil && before.Pull.HeadCommit == pull.HeadCommit &&
		(pull.BaseBranch == "" || pull.BaseBranch == before.Pull.BaseBranch)
	after := models.PullStatus{Pull: pull}
	if current {
		after = *before
	}
	for _, result := range results {
		fresh := projectStatus(result)
		if i := indexOf(after.Projects, fresh); current && i >= 0 {
			mergeProject(&after.Projects[i], fresh)
			continue
		}
		if before != nil && !current {
			if i := indexOf(before.Projects, fresh); i >= 0 && len(before.Projects[i].PolicyStatus) > 0 {
				fresh.PolicyStatus = before.Projects[i].PolicyStatus
			}
		}
		after.Projects = append(after.Projects, fresh)
	}
	return after
}

func indexOf(projects []models.ProjectStatus, project models.ProjectStatus) int {
	return slices.IndexFunc(projects, func(p models.ProjectStatus) bool {
		return p.Workspace == project.Workspace && p.RepoRelDir == project.RepoRelDir && p.ProjectName == project.ProjectName
	})
}

func mergeProject(known *models.ProjectStatus, fresh models.ProjectStatus) {
	known.Status = fresh.Status
	if len(known.PolicyStatus) == 0 {
		known.PolicyStatus = fresh.PolicyStatus
		return
	}
	for i, set := range known.PolicyStatus {
		for _, newSet := range fresh.PolicyStatus {
			if set.PolicySetName == newSet.PolicySetName {
				known.PolicyStatus[i] = newSet
			}
		}
	}
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
func memorySubject(wrap func(*memory) db.Database) Subject {
	return Subject{
		Name: "memory",
		NewStore: func(*testing.T) Store {
			storage := newMemoryStorage()
			return Store{
				Open: func() (db.Database, error) { return wrap(storage.open()), nil },
				Raw:  storage,
			}
		},
		Capabilities: Persistent | RawBytes | ForeignKeys | CloseIsSafe | StableReads,
	}
}

func TestReferenceKeepsEveryPromise(t *testing.T) {
	Run(t, memorySubject(func(m *memory) db.Database { return m }))
}

func TestReferenceShared(t *testing.T) {
	RunShared(t, Pair{
		Name: "memory", A: "one", B: "other",
		NewStorage: func(*testing.T) SharedStorage {
			storage := newMemoryStorage()
			open := func() (db.Database, error) { return storage.open(), nil }
			return SharedStorage{OpenA: open, OpenB: open, Raw: storage}
		},
	})
}
