package conformance

import (
	"fmt"
	"math/rand/v2"

	"github.com/runatlantis/atlantis/server/events/models"
)

func modelBehaviours() []behaviour {
	return []behaviour{
		{name: "Model/RandomOperations", check: randomOperations},
		{name: "Model/RandomOperationsWithRestarts", needs: Persistent, check: randomOperationsWithRestarts},
	}
}

const modelOperations = 400

// model is what a lock database has to behave like: a map.
type model map[string]models.ProjectLock

func (m model) list() []models.ProjectLock {
	var locks []models.ProjectLock
	for _, lock := range m {
		locks = append(locks, lock)
	}
	return locks
}

// takeByPull removes and returns what UnlockByPull has to.
func (m model) takeByPull(repo string, pullNum int) []models.ProjectLock {
	var taken []models.ProjectLock
	for key, lock := range m {
		if lock.Project.RepoFullName == repo && lock.Pull.Num == pullNum {
			taken = append(taken, lock)
			delete(m, key)
		}
	}
	return taken
}

func randomOperations(s *scene) error { return s.followModel(nil) }

func randomOperationsWithRestarts(s *scene) error { return s.followModel(s.reopen) }

// followModel does random operations on few projects of few pulls and compares
// each result with the model's. If restart is given, it is called now and then.
func (s *scene) followModel(restart func() error) error {
	pool := randomProjects(s.random)
	m := model{}
	for i := range modelOperations {
		lock := pool[s.random.IntN(len(pool))]
		lock.Pull.Num = 1 + s.random.IntN(3)
		if err := s.followOnce(m, lock, restart); err != nil {
			return fmt.Errorf("operation %d of %d: %w", i+1, modelOperations, err)
		}
	}
	return listed(s.db, m.list()...)
}

// followOnce does one random operation with a lock that may or may not be held.
func (s *scene) followOnce(m model, lock models.ProjectLock, restart func() error) error {
	key := keyOf(lock)
	holder, taken := m[key]
	switch operation := s.random.IntN(100); {
	case operation < 40 && taken:
		return refused(s.db, lock, holder)
	case operation < 40:
		m[key] = lock
		return granted(s.db, lock)
	case operation < 50 && taken:
		delete(m, key)
		return released(s.db, holder)
	case operation < 50:
		return notReleased(s.db.Unlock(lock.Project, lock.Workspace))
	case operation < 65:
		got, err := s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num)
		if err != nil {
			return fmt.Errorf("UnlockIfOwnedByPull: %w", err)
		}
		if !taken || holder.Pull.Num != lock.Pull.Num {
			return isNone("UnlockIfOwnedByPull", got)
		}
		delete(m, key)
		return isLock("UnlockIfOwnedByPull", got, holder)
	case operation < 80 && taken:
		return held(s.db, holder)
	case operation < 80:
		return free(s.db, lock.Project, lock.Workspace)
	case operation < 88:
		return listed(s.db, m.list()...)
	case operation < 97 || restart == nil:
		repo := lock.Project.RepoFullName
		return releasedByPull(s.db, repo, lock.Pull.Num, m.takeByPull(repo, lock.Pull.Num)...)
	default:
		return restart()
	}
}

// randomProjects returns locks of projects with nasty names. No two have one
// key and no repository's name is a prefix of another's: those have behaviours
// of their own.
func randomProjects(random *rand.Rand) []models.ProjectLock {
	const projects = 16
	repos := []string{"acme/infra", "acme/live", "globex/in fra", "group/sub/repo"}
	byKey := model{}
	for len(byKey) < projects {
		lock := newLock(repos[random.IntN(len(repos))], randomName(random), randomName(random), randomName(random), 0)
		byKey[keyOf(lock)] = lock
	}
	return sortedByKey(byKey.list())
}

// randomName returns one to six pieces that some storage could trip over. It
// has no slash, so that different names give different keys.
func randomName(random *rand.Rand) string {
	pieces := []string{"a", "B", ".", "-", " ", "*", "?", "[", "]", "{", "}", "\\", "\"", "'", ":", "%", "é", "🔒", "\t", "\x00", "<", "&", "$", "\u2028"}
	var name string
	for range 1 + random.IntN(6) {
		name += pieces[random.IntN(len(pieces))]
	}
	return name
}
