package handover

import (
	"strings"
	"sync"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/internal/release"
)

// pullKey names a pull request.
type pullKey struct {
	host, repo string
	num        int
}

func keyOf(repo models.Repo, num int) pullKey {
	return pullKey{strings.ToLower(repo.VCSHost.Hostname), repo.FullName, num}
}

// bracket is a command of a pull request from begin to end. What changes in it is guarded by the mutex of [brackets].
type bracket struct {
	command string // atlock.RunPlan, …
	pull    models.PullRequest
	key     pullKey
	began   time.Time
	applied map[string]bool // keys under which something was applied before it

	actor   atlock.Actor // who runs it
	unmark  func()
	run     *atlock.Run // nil without a queue
	builtAs uint64      // the order in which lists of projects were made; 0 before
	closed  bool        // its pull request was closed meanwhile
	modes   map[string]locksMode
	taken   map[string]grant
	refused map[string]bool // keys of the projects that the guard refused
	orphans []atlock.ProjectWorkspace
}

// grant is a lock that the pull request has.
type grant struct {
	lock  atlock.ProjectWorkspace
	token atlock.FencingToken
}

// brackets are those that are open in this process.
//
// Atlantis runs one plan or apply of a pull request at a time, and answers a second one that it is busy, inside the brackets of
// both. The one that works is the one whose list of projects was made last: Atlantis makes it after it looked whether another runs.
type brackets struct {
	mutex sync.Mutex
	built uint64
	open  map[*command.Context]*bracket
	marks map[*mark]struct{} // who works for which pull request
}

func (b *brackets) add(ctx *command.Context, added *bracket) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.open == nil {
		b.open = map[*command.Context]*bracket{}
	}
	b.open[ctx] = added
}

// remove ends a bracket, and tells what it took if its pull request was closed meanwhile.
func (b *brackets) remove(ctx *command.Context) []atlock.ProjectWorkspace {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	ended := b.open[ctx]
	delete(b.open, ctx)
	if ended == nil || !ended.closed {
		return nil
	}
	var taken []atlock.ProjectWorkspace
	for _, granted := range ended.taken {
		taken = append(taken, granted.lock)
	}
	return taken
}

// in changes a bracket.
func (b *brackets) in(change func()) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	change()
}

// of is the bracket of a command; nil if it has none.
func (b *brackets) of(ctx *command.Context) *bracket {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.open[ctx]
}

// build marks the bracket as the one that works, with the modes of its projects.
func (b *brackets) build(built *bracket, modes map[string]locksMode) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.built++
	built.builtAs, built.modes = b.built, modes
}

// working is the bracket of the pull request in which projects are planned or applied now; nil without one.
func (b *brackets) working(key pullKey) *bracket {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	var last *bracket
	for _, open := range b.open {
		if open.key == key && open.builtAs > 0 && (last == nil || open.builtAs > last.builtAs) {
			last = open
		}
	}
	return last
}

// busy is a plan or apply of the pull request that is open; nil without one.
func (b *brackets) busy(key pullKey) *bracket {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, open := range b.open {
		if open.key == key && open.command != atlock.RunUnlock {
			return open
		}
	}
	return nil
}

// isPlanned tells whether a plan of a pull request with this number runs that is neither closed nor unlocked meanwhile.
func (b *brackets) isPlanned(repo string, num int) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	planned := false
	for _, open := range b.open {
		if open.key.repo != repo || open.key.num != num {
			continue
		}
		if open.closed || open.command == atlock.RunUnlock {
			return false
		}
		planned = planned || open.command == atlock.RunPlan && open.builtAs > 0
	}
	return planned
}

// take adds a lock to those that a bracket took.
func (b *brackets) take(by *bracket, lock atlock.ProjectWorkspace, token atlock.FencingToken) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if by.taken == nil {
		by.taken = map[string]grant{}
	}
	by.taken[lockKey(lock)] = grant{lock, token}
}

// token is that of the lock by which the bracket has a project.
func (b *brackets) token(of *bracket, key string) atlock.FencingToken {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return of.taken[key].token
}

// keeps tells whether a plan of a pull request with this number must not release the lock. A run of the library sees to that, too, as long as
// the mode has a queue.
func (b *brackets) keeps(repo string, num int, key string) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, open := range b.open {
		if open.key.repo == repo && open.key.num == num && open.command == atlock.RunPlan && open.applied[key] {
			return true
		}
	}
	return false
}

// close marks all brackets of a pull request: it is closed.
func (b *brackets) close(key pullKey) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, open := range b.open {
		if open.key == key {
			open.closed = true
		}
	}
}

// givenUp adds locks of a closed pull request to those that its brackets release at their end: a run of the library may have kept them.
func (b *brackets) givenUp(repo string, num int, locks []models.ProjectLock) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, open := range b.open {
		if open.key.repo != repo || open.key.num != num || !open.closed {
			continue
		}
		if open.taken == nil {
			open.taken = map[string]grant{}
		}
		for _, lock := range locks {
			name := atlock.ProjectWorkspace{Project: lock.Project, Workspace: lock.Workspace}
			open.taken[lockKey(name)] = grant{lock: name}
		}
	}
}

// applying is an apply that works on the lock; nil without one.
func (b *brackets) applying(key string) *bracket {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, open := range b.open {
		if _, has := open.modes[key]; has && open.command == atlock.RunApply {
			return open
		}
	}
	return nil
}

func lockKey(lock atlock.ProjectWorkspace) string {
	return models.GenerateLockKey(lock.Project, lock.Workspace)
}

// lockOfKey names a lock by its key, `repo/path/workspace/project`, before v0.40 without the project. Atlantis's own reader takes a
// repository in a subgroup apart.
func lockOfKey(repo, key string) atlock.ProjectWorkspace {
	rest, name := strings.TrimPrefix(key, repo+"/"), ""
	if release.KeyFormat == atlock.KeysCurrent {
		rest, name, _ = cutLast(rest)
	}
	path, workspace, _ := cutLast(rest)
	return atlock.ProjectWorkspace{Project: release.Project(repo, path, name), Workspace: workspace}
}

func cutLast(text string) (before, after string, found bool) {
	at := strings.LastIndex(text, "/")
	if at < 0 {
		return "", text, false
	}
	return text[:at], text[at+1:], true
}

// isClosed tells whether the pull request of the bracket was closed meanwhile.
func (b *brackets) isClosed(of *bracket) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return of.closed
}

// mode is that of a project of the bracket, if the project is known.
func (b *brackets) mode(of *bracket, key string) (locksMode, bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	mode, known := of.modes[key]
	return mode, known
}

// refuse marks a project as one that the guard refused.
func (b *brackets) refuse(in *bracket, key string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if in.refused == nil {
		in.refused = map[string]bool{}
	}
	in.refused[key] = true
}

// isRefused tells whether the guard refused the project.
func (b *brackets) isRefused(in *bracket, key string) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return in.refused[key]
}
