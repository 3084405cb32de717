package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/command"
	"github.com/runatlantis/atlantis/server/events/models"
)

// A suite that cannot fail proves nothing. Each faulty database below is the
// reference with one promise broken, and the suite has to report exactly the
// behaviours that are about this promise, or, for a promise that nearly all
// behaviours rely on, at least those.
func TestSuiteSeesBrokenPromises(t *testing.T) {
	cases := []struct {
		name   string
		wrap   func(*memory) db.Database
		broken []string
		// wide faults may be noticed by other behaviours too.
		wide bool
	}{
		{"holder may lock again", func(m *memory) db.Database { return grantsToHolder{m} }, []string{
			"TryLock/HolderIsRefusedToo",
			"Collisions/HostsOfUnknownOrEqualNameAreOne",
			"Model/RandomOperations",
			"Model/RandomOperationsWithRestarts",
		}, false},
		{"looks, then takes", func(m *memory) db.Database { return looksThenTakes{m} }, []string{
			"Races/OneTakerWins",
			"Races/NeverTwoHolders",
		}, false},
		{"tells the loser that it is the holder", func(m *memory) db.Database { return tellsTheLoserItself{m} }, []string{
			"TryLock/HeldIsRefusedWithTheHolder",
			"Collisions/SecondTakerIsToldTheRealHolder",
			"Races/OneTakerWins",
		}, true},
		{"tells the holder without its teams", func(m *memory) db.Database { return forgetsTeams{m} }, []string{
			"TryLock/HeldIsRefusedWithTheHolder",
			"Values/NilAndEmptyTeamsAreKeptApart",
		}, true},
		{"releases by prefix", func(m *memory) db.Database { return releasesByPrefix{m} }, []string{
			"UnlockByPull/ReposWithCommonPrefixStay",
			"UnlockByPull/SubgroupReposStay",
		}, false},
		{"releases what another pull holds", func(m *memory) db.Database { return releasesForAnyone{m} }, []string{
			"Collisions/OtherPullDoesNotRelease",
			"Collisions/SameNumberInOtherRepoDoesNotRelease",
			"Names/OddNamesAreReleasedIfOwned",
			"UnlockIfOwnedByPull/WrongPull",
			"Values/UnknownFieldsSurvive",
			"Model/RandomOperations",
			"Model/RandomOperationsWithRestarts",
		}, false},
		{"knows a lock by its fields alone", func(m *memory) db.Database { return fieldsAlone{m} }, []string{
			"Names/AtlantisFindsLocksByTheirKey",
			"Collisions/HolderIsFoundByKey",
		}, false},
		{"knows a lock by its key alone", func(m *memory) db.Database { return keyAlone{m} }, []string{
			"Collisions/OtherProjectDoesNotRelease",
		}, false},
		{"tells a pull of the same number the holder", func(m *memory) db.Database { return tellsNamesakes{m} }, []string{
			"Collisions/SameNumberInOtherRepoDoesNotHold",
			"Collisions/SameNumberOnOtherHostDoesNotHold",
		}, false},
		{"compares hosts' names letter by letter", func(m *memory) db.Database { return refusesOtherSpellings{m} }, []string{
			"Collisions/HostsOfUnknownOrEqualNameAreOne",
		}, false},
		{"keys ignore case", func(m *memory) db.Database { return ignoresCase{m} }, []string{
			"Names/OddNamesAreKeptApart",
			"Names/OddNamesAreReleasedByPull",
			"Restart/OddNamesStay",
		}, false},
		{"lists one page", func(m *memory) db.Database { return listsOnePage{m} }, []string{
			"List/ManyLocks",
		}, false},
		{"a corrupt value fails List", func(m *memory) db.Database { return listFailsOnCorrupt{m} }, []string{
			"Corrupt/ListReturnsTheOthers",
		}, false},
		{"a corrupt value is no lock", func(m *memory) db.Database { return overwritesCorrupt{m} }, []string{
			"Corrupt/TryLockIsNeverGranted",
		}, false},
		{"time in UTC", func(m *memory) db.Database { return timeInUTC{m} }, []string{
			"Values/GetLockTimeIsLocal",
		}, false},
		{"time in whole seconds", func(m *memory) db.Database { return wholeSeconds{m} }, []string{
			"Values/TimeIsTheSameInstantInAnyZone",
		}, true},
		{"writes other bytes", func(m *memory) db.Database { return indents{m} }, []string{
			"Values/StoredAsMarshalled",
		}, false},
		{"reading rewrites", func(m *memory) db.Database { return rewrites{m} }, []string{
			"Values/UnknownFieldsSurvive",
		}, false},
		{"command locks are granted twice", func(m *memory) db.Database { return commandTwice{m} }, []string{
			"Commands/PlanAndAutoplanShareOne",
			"Commands/SecondLockIsRefused",
			"Races/OneCommandTakerWins",
			"Restart/CommandLocksStay",
		}, false},
		{"other error texts", func(m *memory) db.Database { return otherTexts{m} }, []string{
			"Pulls/SeparatorInNameIsRefused",
		}, false},
		{"pull updates are lost", func(m *memory) db.Database { return losesUpdates{m} }, []string{
			"Races/PullResultsAddUp",
		}, false},
		{"a new base branch is not noticed", func(m *memory) db.Database { return ignoresBaseBranch{m} }, []string{
			"Pulls/UpdatePullWithResults",
		}, false},
		{"crashes after Close", func(m *memory) db.Database { return crashesAfterClose{m} }, []string{
			"Lifecycle/CallsAfterCloseAreErrors",
			"Lifecycle/CloseDuringCalls",
		}, false},
		{"forgets on restart", func(m *memory) db.Database { return forgetsOnClose{m} }, []string{
			"Restart/LocksStay", "Restart/OddNamesStay", "Restart/LineBreakStays",
		}, true},
		{"repository names are patterns", func(m *memory) db.Database { return repoIsPattern{m} }, []string{
			"UnlockByPull/RepoNameIsNoPattern", "UnlockByPull/RepoNameMatchesItself",
		}, false},
		{"releases of one lock overlap", func(m *memory) db.Database { return looksThenReleases{m} }, []string{
			"Races/OneReleaserIsTold",
		}, false},
		{"second Close is an error", func(m *memory) db.Database { return closesOnce{m} }, []string{
			"Lifecycle/CloseTwice",
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := brokenPromises(t, memorySubject(c.wrap))
			if c.wide {
				got = slices.DeleteFunc(got, func(name string) bool { return !slices.Contains(c.broken, name) })
			}
			slices.Sort(got)
			slices.Sort(c.broken)
			if !slices.Equal(got, c.broken) {
				t.Errorf("broken:\n got %q\nwant %q", got, c.broken)
			}
		})
	}
}

// brokenPromises returns the behaviours in which a subject broke its promise.
func brokenPromises(t *testing.T, subject Subject) []string {
	t.Helper()
	// Few rounds: the faults below show at once.
	settings := settings{rounds: 20, seed: 1}
	var broken []string
	for _, b := range behaviours() {
		if !subject.Capabilities.has(b.needs) {
			continue
		}
		err := b.try(t, subject, settings)
		switch {
		case err == nil:
		case isViolation(err):
			broken = append(broken, b.name)
		default:
			t.Errorf("%s: not a violation: %v", b.name, err)
		}
	}
	return broken
}

// A listed defect that is not there, and an error that is no violation, are
// failures as well.
func TestVerdict(t *testing.T) {
	guarding := behaviour{name: "x", guards: TryLockRace}
	plain := behaviour{name: "y"}
	sound, defective := Subject{}, Subject{Defects: []Defect{TryLockRace}}
	broken := fmt.Errorf("round 7: %w", violated("two holders"))
	failed := errors.New("connection refused")

	cases := []struct {
		behaviour behaviour
		subject   Subject
		err       error
		want      bool
	}{
		{plain, sound, nil, true},
		{plain, sound, broken, false},
		{plain, sound, failed, false},
		{plain, defective, nil, true},
		{plain, defective, broken, false},
		{guarding, sound, nil, true},
		{guarding, sound, broken, false},
		{guarding, sound, failed, false},
		{guarding, defective, nil, false},
		{guarding, defective, broken, true},
		{guarding, defective, failed, false},
	}
	for _, c := range cases {
		if got, why := c.behaviour.verdict(c.subject, c.err); got != c.want {
			t.Errorf("verdict(%q, defects %v, %v) = %v (%s), want %v", c.behaviour.guards, c.subject.Defects, c.err, got, why, c.want)
		}
	}
}

type grantsToHolder struct{ *memory }

func (m grantsToHolder) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if err == nil && current.Pull.Num == lock.Pull.Num && sameProject(current, lock.Project, lock.Workspace) {
		return true, lock, nil
	}
	return acquired, current, err
}

type tellsNamesakes struct{ *memory }

func (m tellsNamesakes) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if !errors.Is(err, errNamesake) {
		return acquired, current, err
	}
	value, _, err := m.storage.Get(Locks, keyOf(lock))
	if err != nil {
		return false, current, err
	}
	holder, err := decodeLock(value)
	if err != nil {
		return false, current, err
	}
	return false, *holder, nil
}

type refusesOtherSpellings struct{ *memory }

func (m refusesOtherSpellings) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if err == nil && !acquired && current.Pull.Num == lock.Pull.Num && current.Pull.BaseRepo.VCSHost.Hostname != lock.Pull.BaseRepo.VCSHost.Hostname {
		return false, models.ProjectLock{}, errNamesake
	}
	return acquired, current, err
}

type looksThenTakes struct{ *memory }

func (m looksThenTakes) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	_, found, _ := m.storage.Get(Locks, keyOf(lock))
	if found || m.Ping() != nil {
		return m.memory.TryLock(lock)
	}
	time.Sleep(time.Millisecond)
	value, err := json.Marshal(lock)
	if err != nil {
		return false, lock, err
	}
	return true, lock, m.storage.Put(Locks, keyOf(lock), value)
}

type tellsTheLoserItself struct{ *memory }

func (m tellsTheLoserItself) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, _, err := m.memory.TryLock(lock)
	return acquired, lock, err
}

type forgetsTeams struct{ *memory }

func (m forgetsTeams) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if !acquired {
		current.User.Teams = nil
	}
	return acquired, current, err
}

type releasesByPrefix struct{ *memory }

func (m releasesByPrefix) UnlockByPull(repo string, pullNum int) ([]models.ProjectLock, error) {
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var released []models.ProjectLock
	for _, lock := range all {
		if strings.HasPrefix(keyOf(lock), repo) && lock.Pull.Num == pullNum {
			if _, err := m.Unlock(lock.Project, lock.Workspace); err != nil {
				return nil, err
			}
			released = append(released, lock)
		}
	}
	return released, nil
}

type releasesForAnyone struct{ *memory }

func (m releasesForAnyone) UnlockIfOwnedByPull(project models.Project, workspace string, _ int) (*models.ProjectLock, error) {
	return m.Unlock(project, workspace)
}

type fieldsAlone struct{ *memory }

func (m fieldsAlone) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock != nil && !sameProject(*lock, project, workspace) {
		return nil, nil
	}
	return lock, err
}

type keyAlone struct{ *memory }

func (m keyAlone) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	value, found, _ := m.storage.Get(Locks, models.GenerateLockKey(project, workspace))
	if !found || m.Ping() != nil {
		return m.memory.GetLock(project, workspace)
	}
	lock, err := decodeLock(value)
	if lock != nil {
		lock.Time = lock.Time.Local()
	}
	return lock, err
}

type ignoresCase struct{ *memory }

func (m ignoresCase) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return false, lock, err
	}
	for key, value := range m.locks() {
		if key != keyOf(lock) && strings.EqualFold(key, keyOf(lock)) {
			m.leave()
			holder, err := decodeLock(value)
			if err != nil {
				return false, lock, err
			}
			return false, *holder, nil
		}
	}
	m.leave()
	return m.memory.TryLock(lock)
}

type listsOnePage struct{ *memory }

func (m listsOnePage) List() ([]models.ProjectLock, error) {
	locks, err := m.memory.List()
	return locks[:min(len(locks), 100)], err
}

type listFailsOnCorrupt struct{ *memory }

func (m listFailsOnCorrupt) List() ([]models.ProjectLock, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	var locks []models.ProjectLock
	for _, value := range m.locks() {
		lock, err := decodeLock(value)
		if err != nil {
			return nil, err
		}
		locks = append(locks, *lock)
	}
	return locks, nil
}

type overwritesCorrupt struct{ *memory }

func (m overwritesCorrupt) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if err == nil || errors.Is(err, errClosed) || errors.Is(err, errNamesake) {
		return acquired, current, err
	}
	value, err := json.Marshal(lock)
	if err != nil {
		return false, lock, err
	}
	return true, lock, m.storage.Put(Locks, keyOf(lock), value)
}

type timeInUTC struct{ *memory }

func (m timeInUTC) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock != nil {
		lock.Time = lock.Time.UTC()
	}
	return lock, err
}

type wholeSeconds struct{ *memory }

func (m wholeSeconds) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock != nil {
		lock.Time = lock.Time.Truncate(time.Second)
	}
	return lock, err
}

type indents struct{ *memory }

func (m indents) TryLock(lock models.ProjectLock) (bool, models.ProjectLock, error) {
	acquired, current, err := m.memory.TryLock(lock)
	if !acquired {
		return acquired, current, err
	}
	value, err := json.MarshalIndent(lock, "", " ")
	if err != nil {
		return false, lock, err
	}
	return true, lock, m.storage.Put(Locks, keyOf(lock), value)
}

type rewrites struct{ *memory }

func (m rewrites) GetLock(project models.Project, workspace string) (*models.ProjectLock, error) {
	lock, err := m.memory.GetLock(project, workspace)
	if lock == nil {
		return lock, err
	}
	value, err := json.Marshal(lock)
	if err != nil {
		return nil, err
	}
	return lock, m.storage.Put(Locks, keyOf(*lock), value)
}

type commandTwice struct{ *memory }

func (m commandTwice) LockCommand(name command.Name, at time.Time) (*command.Lock, error) {
	lock, err := m.memory.LockCommand(name, at)
	if err != nil && !errors.Is(err, errClosed) {
		return m.CheckCommandLock(name)
	}
	return lock, err
}

type otherTexts struct{ *memory }

func (m otherTexts) GetPullStatus(pull models.PullRequest) (*models.PullStatus, error) {
	status, err := m.memory.GetPullStatus(pull)
	if err != nil {
		err = fmt.Errorf("get: %w", err)
	}
	return status, err
}

type losesUpdates struct{ *memory }

func (m losesUpdates) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (models.PullStatus, error) {
	before, err := m.GetPullStatus(pull)
	if err != nil {
		return m.memory.UpdatePullWithResults(pull, results)
	}
	time.Sleep(time.Millisecond)
	after := merge(before, pull, results)
	return after, m.withPullStatus(pull, func(entry *pullEntry) error { return entry.set(after) })
}

type ignoresBaseBranch struct{ *memory }

func (m ignoresBaseBranch) UpdatePullWithResults(pull models.PullRequest, results []command.ProjectResult) (models.PullStatus, error) {
	if before, err := m.GetPullStatus(pull); err == nil && before != nil {
		pull.BaseBranch = before.Pull.BaseBranch
	}
	return m.memory.UpdatePullWithResults(pull, results)
}

type crashesAfterClose struct{ *memory }

func (m crashesAfterClose) List() ([]models.ProjectLock, error) {
	locks, err := m.memory.List()
	if errors.Is(err, errClosed) {
		panic(err)
	}
	return locks, err
}

type closesOnce struct{ *memory }

func (m closesOnce) Close() error {
	if err := m.Ping(); err != nil {
		return err
	}
	return m.memory.Close()
}

type forgetsOnClose struct{ *memory }

func (m forgetsOnClose) Close() error {
	m.storage.mutex.Lock()
	clear(m.locks())
	m.storage.mutex.Unlock()
	return m.memory.Close()
}

type repoIsPattern struct{ *memory }

func (m repoIsPattern) UnlockByPull(repo string, pullNum int) ([]models.ProjectLock, error) {
	all, err := m.List()
	if err != nil {
		return nil, err
	}
	var released []models.ProjectLock
	for _, lock := range all {
		if matched, _ := path.Match(repo, lock.Project.RepoFullName); matched && lock.Pull.Num == pullNum {
			if _, err := m.Unlock(lock.Project, lock.Workspace); err != nil {
				return nil, err
			}
			released = append(released, lock)
		}
	}
	return released, nil
}

type looksThenReleases struct{ *memory }

func (m looksThenReleases) Unlock(project models.Project, workspace string) (*models.ProjectLock, error) {
	// GetLock would return the time in another zone, which is not the fault meant here.
	m.storage.mutex.Lock()
	lock, err := m.find(project, workspace)
	m.storage.mutex.Unlock()
	if lock == nil || m.Ping() != nil {
		return m.memory.Unlock(project, workspace)
	}
	time.Sleep(time.Millisecond)
	if _, deleteErr := m.memory.Unlock(project, workspace); deleteErr != nil {
		return nil, deleteErr
	}
	return lock, err
}
