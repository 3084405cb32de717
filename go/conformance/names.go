package conformance

import (
	"fmt"
	"strings"

	"github.com/runatlantis/atlantis/server/core/locking"
	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/internal/release"
)

func nameBehaviours() []behaviour {
	return []behaviour{
		{name: "Names/OddNamesAreKeptApart", check: oddNamesAreKeptApart},
		{name: "Names/OddNamesAreReleasedByPull", check: oddNamesByPull},
		{name: "Names/OddNamesAreReleasedIfOwned", check: oddNamesIfOwned},
		{name: "Names/AtlantisFindsLocksByTheirKey", check: oddNamesByKey},
		{name: "Names/PullStatusesOfOddRepos", check: oddReposPullStatus},
	}
}

// oddName is a name that some part of some storage could trip over.
type oddName struct{ what, repo, path, workspace, project string }

// oddNames has no two names with one key, and no glob characters in a
// repository's name, which have behaviours of their own.
var oddNames = []oddName{
	{what: "plain", repo: "acme/infra", path: ".", workspace: "default"},
	{what: "slashes in the path", repo: "acme/infra", path: "a/very/deep/path", workspace: "default", project: "p"},
	{what: "slash in the project name", repo: "acme/infra", path: "env", workspace: "default", project: "team/vpc"},
	{what: "GitLab subgroups", repo: "group/sub/repo", path: ".", workspace: "default"},
	{what: "deep GitLab subgroups", repo: "group/a/b/c/repo", path: "x/y", workspace: "default", project: "p"},
	{what: "spaces", repo: "Bitbucket Server/my repo", path: "a b", workspace: " ", project: " p "},
	{what: "glob characters", repo: "acme/infra", path: "*?[a]^-\\", workspace: "[!x]*", project: "?*"},
	{what: "unicode", repo: "äcme/インフラ", path: "päth/🔒", workspace: "ﬁ", project: "e\u0301"},
	{what: "unicode, composed differently", repo: "äcme/インフラ", path: "päth/🔒", workspace: "ﬁ", project: "é"},
	{what: "hash tag", repo: "acme/{infra}", path: "{a}", workspace: "{b}", project: "{c}"},
	{what: "closing brace", repo: "acme/infra}", path: "}", workspace: "}", project: "}"},
	{what: "opening brace", repo: "acme/{infra", path: "{", workspace: "{", project: "{"},
	{what: "empty hash tag", repo: "acme/{}", path: "{}", workspace: "{}", project: "{}"},
	{what: "braces the wrong way round", repo: "acme/}infra{", path: "}a{", workspace: "}{", project: "}{"},
	{what: "empty workspace", repo: "acme/infra", path: "empty", workspace: ""},
	{what: "2 KB path", repo: "acme/infra", path: strings.Repeat("0123456789abcde/", 128) + "end", workspace: "default"},
	{what: "long everything", repo: "acme/" + strings.Repeat("r", 512), path: strings.Repeat("p", 512), workspace: strings.Repeat("w", 512), project: strings.Repeat("n", 512)},
	{what: "quotes", repo: "acme/infra", path: `"double" 'single'`, workspace: "`back`", project: `"`},
	{what: "backslash", repo: "acme/infra", path: `a\b\\c`, workspace: `\`, project: `\n`},
	{what: "HTML", repo: "acme/infra", path: "<script>&amp;", workspace: "<", project: ">"},
	{what: "percent", repo: "acme/infra", path: "%2F%s%d%00", workspace: "%", project: "%n"},
	{what: "line separators", repo: "acme/infra", path: "a\u2028b", workspace: "\u2029", project: "\u0085"},
	{what: "tab and NUL", repo: "acme/infra", path: "a\tb\x00c", workspace: "\x00", project: "\x7f"},
	{what: "colons", repo: "acme/infra", path: ":", workspace: "a::b", project: ":atlock"},
	{what: "upper case", repo: "ACME/Infra", path: ".", workspace: "Default"},
	{what: "prefix of Redis keys", repo: "pr/pr", path: "pr", workspace: "lock", project: "global"},
	{what: "dots", repo: "acme/infra", path: "../..", workspace: "..", project: "."},
}

// brokenLine is kept apart from oddNames because Atlantis itself cannot read
// a key with a line break: its expression for keys stops there.
var brokenLine = oddName{what: "line break", repo: "acme/infra", path: "a\nb", workspace: "c\r\nd", project: "\n"}

func (n oddName) lock(pullNum int) models.ProjectLock {
	return newLock(n.repo, n.path, n.workspace, n.project, pullNum)
}

// oddLocks returns a lock for each odd name, each of another pull.
func oddLocks() []models.ProjectLock {
	var locks []models.ProjectLock
	for i, name := range append(oddNames, brokenLine) {
		locks = append(locks, name.lock(i+1))
	}
	return apart(locks...)
}

func oddNamesAreKeptApart(s *scene) error {
	locks := oddLocks()
	if err := allGranted(s.db, locks...); err != nil {
		return err
	}
	for _, lock := range locks {
		if err := refused(s.db, rivalOf(lock), lock); err != nil {
			return err
		}
	}
	if err := first(
		func() error { return allHeld(s.db, locks...) },
		func() error { return listed(s.db, locks...) },
	); err != nil {
		return err
	}
	for i, lock := range locks {
		if err := first(
			func() error { return released(s.db, lock) },
			func() error { return listed(s.db, locks[i+1:]...) },
		); err != nil {
			return err
		}
	}
	return nil
}

func oddNamesByPull(s *scene) error {
	locks := oddLocks()
	if err := allGranted(s.db, locks...); err != nil {
		return err
	}
	for i, lock := range locks {
		if err := first(
			func() error { return releasedByPull(s.db, lock.Project.RepoFullName, lock.Pull.Num, lock) },
			func() error { return listed(s.db, locks[i+1:]...) },
		); err != nil {
			return err
		}
	}
	return nil
}

func oddNamesIfOwned(s *scene) error {
	for _, lock := range oddLocks() {
		err := first(
			func() error { return granted(s.db, lock) },
			func() error {
				return notReleased(s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num+1))
			},
			func() error { return held(s.db, lock) },
			func() error {
				got, err := s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, lock.Pull.Num)
				if err != nil {
					return fmt.Errorf("UnlockIfOwnedByPull: %w", err)
				}
				return isLock("UnlockIfOwnedByPull", got, lock)
			},
			func() error { return free(s.db, lock.Project, lock.Workspace) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// Atlantis's web page and API name a lock by its key. Its client splits the key
// with an expression that takes the first two parts for the repository, so for
// a subgroup repository the database is asked for another project than the
// lock's. Its key is the same, and the lock must be found.
func oddNamesByKey(s *scene) error {
	for i, name := range oddNames {
		if err := s.foundByKey(name.lock(i + 1)); err != nil {
			return fmt.Errorf("%s: %w", name.what, err)
		}
	}
	return nil
}

// foundByKey takes, finds and releases a lock the way Atlantis's web page does.
func (s *scene) foundByKey(lock models.ProjectLock) error {
	client := locking.NewClient(s.db)
	taken, err := client.TryLock(lock.Project, lock.Workspace, lock.Pull, lock.User)
	if err != nil {
		return fmt.Errorf("Client.TryLock: %w", err)
	}
	if !taken.LockAcquired {
		return violated("Client.TryLock of a free lock was refused")
	}
	lock.Time = taken.CurrLock.Time

	all, err := client.List()
	if err != nil {
		return fmt.Errorf("Client.List: %w", err)
	}
	if found, ok := all[taken.LockKey]; !ok || !sameLock(found, lock) {
		return violated("Client.List does not have the lock %q", abbreviate(taken.LockKey))
	}
	got, err := client.GetLock(taken.LockKey)
	if err != nil {
		return fmt.Errorf("Client.GetLock: %w", err)
	}
	if err := isLock("Client.GetLock", got, lock); err != nil {
		return err
	}
	got, err = client.Unlock(taken.LockKey)
	if err != nil {
		return fmt.Errorf("Client.Unlock: %w", err)
	}
	return first(
		func() error { return isLock("Client.Unlock", got, lock) },
		func() error { return free(s.db, lock.Project, lock.Workspace) },
	)
}

func oddReposPullStatus(s *scene) error {
	for i, lock := range oddLocks() {
		result := planned(lock.Workspace, lock.Project.Path, release.ProjectName(lock.Project))
		want := models.PullStatus{Pull: lock.Pull, Projects: []models.ProjectStatus{projectStatus(result)}}
		err := first(
			func() error { return updated(s.db, lock.Pull, result) },
			func() error { return statusIs(s.db, lock.Pull, &want) },
			func() error { return deletedStatus(s.db, lock.Pull) },
		)
		if err != nil {
			return fmt.Errorf("odd name %d: %w", i, err)
		}
	}
	return nil
}
