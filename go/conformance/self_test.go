//go:build !atlantis_before_v0_46

package conformance

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/atlock/atlock/go/internal/release"
)

// A suite that cannot fail proves nothing. Each faulty database below is the
// reference with one promise broken, and the suite has to report exactly the
// behaviours that are about this promise, or, for a promise that nearly all
// behaviours rely on, at least those.
func TestSuiteSeesBrokenPromises(t *testing.T) {
	cases := []struct {
		name   string
		wrap   func(*memory) release.Database
		broken []string
		// wide faults may be noticed by other behaviours too.
		wide bool
	}{
		{"holder may lock again", func(m *memory) release.Database { return grantsToHolder{m} }, []string{
			"TryLock/HolderIsRefusedToo",
			"Collisions/HostsOfUnknownOrEqualNameAreOne",
			"Model/RandomOperations",
			"Model/RandomOperationsWithRestarts",
		}, false},
		{"looks, then takes", func(m *memory) release.Database { return looksThenTakes{m} }, []string{
			"Races/OneTakerWins",
			"Races/NeverTwoHolders",
		}, false},
		{"tells the loser that it is the holder", func(m *memory) release.Database { return tellsTheLoserItself{m} }, []string{
			"TryLock/HeldIsRefusedWithTheHolder",
			"Collisions/SecondTakerIsToldTheRealHolder",
			"Races/OneTakerWins",
		}, true},
		{"tells the holder without its teams", func(m *memory) release.Database { return forgetsTeams{m} }, []string{
			"TryLock/HeldIsRefusedWithTheHolder",
			"Values/NilAndEmptyTeamsAreKeptApart",
		}, true},
		{"releases by prefix", func(m *memory) release.Database { return releasesByPrefix{m} }, []string{
			"UnlockByPull/ReposWithCommonPrefixStay",
			"UnlockByPull/SubgroupReposStay",
		}, false},
		{"releases what another pull holds", func(m *memory) release.Database { return releasesForAnyone{m} }, []string{
			"Collisions/OtherPullDoesNotRelease",
			"Collisions/SameNumberInOtherRepoDoesNotRelease",
			"Names/OddNamesAreReleasedIfOwned",
			"UnlockIfOwnedByPull/WrongPull",
			"Values/UnknownFieldsSurvive",
			"Model/RandomOperations",
			"Model/RandomOperationsWithRestarts",
		}, false},
		{"knows a lock by its fields alone", func(m *memory) release.Database { return fieldsAlone{m} }, []string{
			"Names/AtlantisFindsLocksByTheirKey",
			"Collisions/HolderIsFoundByKey",
		}, false},
		{"knows a lock by its key alone", func(m *memory) release.Database { return keyAlone{m} }, []string{
			"Collisions/OtherProjectDoesNotRelease",
		}, false},
		{"tells a pull of the same number the holder", func(m *memory) release.Database { return tellsNamesakes{m} }, []string{
			"Collisions/SameNumberInOtherRepoDoesNotHold",
			"Collisions/SameNumberOnOtherHostDoesNotHold",
		}, false},
		{"compares hosts' names letter by letter", func(m *memory) release.Database { return refusesOtherSpellings{m} }, []string{
			"Collisions/HostsOfUnknownOrEqualNameAreOne",
		}, false},
		{"keys ignore case", func(m *memory) release.Database { return ignoresCase{m} }, []string{
			"Names/OddNamesAreKeptApart",
			"Names/OddNamesAreReleasedByPull",
			"Restart/OddNamesStay",
		}, false},
		{"lists one page", func(m *memory) release.Database { return listsOnePage{m} }, []string{
			"List/ManyLocks",
		}, false},
		{"a corrupt value fails List", func(m *memory) release.Database { return listFailsOnCorrupt{m} }, []string{
			"Corrupt/ListReturnsTheOthers",
		}, false},
		{"a corrupt value is no lock", func(m *memory) release.Database { return overwritesCorrupt{m} }, []string{
			"Corrupt/TryLockIsNeverGranted",
		}, false},
		{"time in UTC", func(m *memory) release.Database { return timeInUTC{m} }, []string{
			"Values/GetLockTimeIsLocal",
		}, false},
		{"time in whole seconds", func(m *memory) release.Database { return wholeSeconds{m} }, []string{
			"Values/TimeIsTheSameInstantInAnyZone",
		}, true},
		{"writes other bytes", func(m *memory) release.Database { return indents{m} }, []string{
			"Values/StoredAsMarshalled",
		}, false},
		{"reading rewrites", func(m *memory) release.Database { return rewrites{m} }, []string{
			"Values/UnknownFieldsSurvive",
		}, false},
		{"command locks are granted twice", func(m *memory) release.Database { return commandTwice{m} }, []string{
			"Commands/PlanAndAutoplanShareOne",
			"Commands/SecondLockIsRefused",
			"Races/OneCommandTakerWins",
			"Restart/CommandLocksStay",
		}, false},
		{"other error texts", func(m *memory) release.Database { return otherTexts{m} }, []string{
			"Pulls/SeparatorInNameIsRefused",
		}, false},
		{"pull updates are lost", func(m *memory) release.Database { return losesUpdates{m} }, []string{
			"Races/PullResultsAddUp",
		}, false},
		{"a new base branch is not noticed", func(m *memory) release.Database { return ignoresBaseBranch{m} }, []string{
			"Pulls/UpdatePullWithResults",
		}, false},
		{"crashes after Close", func(m *memory) release.Database { return crashesAfterClose{m} }, []string{
			"Lifecycle/CallsAfterCloseAreErrors",
			"Lifecycle/CloseDuringCalls",
		}, false},
		{"forgets on restart", func(m *memory) release.Database { return forgetsOnClose{m} }, []string{
			"Restart/LocksStay", "Restart/OddNamesStay", "Restart/LineBreakStays",
		}, true},
		{"repository names are patterns", func(m *memory) release.Database { return repoIsPattern{m} }, []string{
			"UnlockByPull/RepoNameIsNoPattern", "UnlockByPull/RepoNameMatchesItself",
		}, false},
		{"releases of one lock overlap", func(m *memory) release.Database { return looksThenReleases{m} }, []string{
			"Races/OneReleaserIsTold",
		}, false},
		{"second Close is an error", func(m *memory) release.Database { return closesOnce{m} }, []string{
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
