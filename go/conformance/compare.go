package conformance

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/runatlantis/atlantis/server/events/models"
)

// sameLock reports whether two locks are equal in every field. Times are equal
// if they are the same instant; the zone is a matter of presentation.
func sameLock(a, b models.ProjectLock) bool {
	if !a.Time.Equal(b.Time) {
		return false
	}
	a.Time = b.Time
	return reflect.DeepEqual(a, b)
}

// sameLocks reports whether two lists hold the same locks, in any order. No
// order is promised: stock BoltDB sorts by key, stock Redis does not.
func sameLocks(a, b []models.ProjectLock) bool {
	return slices.EqualFunc(sortedByKey(a), sortedByKey(b), sameLock)
}

func sortedByKey(locks []models.ProjectLock) []models.ProjectLock {
	return slices.SortedFunc(slices.Values(locks), func(a, b models.ProjectLock) int {
		return strings.Compare(keyOf(a), keyOf(b))
	})
}

// describe shows a lock with all its fields, to compare two that differ.
func describe(lock models.ProjectLock) string {
	text, err := json.Marshal(lock)
	if err != nil {
		return fmt.Sprintf("%+v", lock)
	}
	return abbreviate(keyOf(lock)) + " = " + string(text)
}

// keys shows the locks of a list by name.
func keys(locks []models.ProjectLock) []string {
	names := make([]string, len(locks))
	for i, lock := range locks {
		names[i] = fmt.Sprintf("%s #%d", abbreviate(keyOf(lock)), lock.Pull.Num)
	}
	slices.Sort(names)
	return names
}

// describeDifference shows which locks of two lists differ, by name, or, if the
// names are equal, the first pair that differs in other fields.
func describeDifference(got, want []models.ProjectLock) string {
	gotKeys, wantKeys := keys(got), keys(want)
	if !slices.Equal(gotKeys, wantKeys) {
		return fmt.Sprintf("got %d locks, want %d; missing: %s; unexpected: %s",
			len(got), len(want), without(wantKeys, gotKeys), without(gotKeys, wantKeys))
	}
	got, want = sortedByKey(got), sortedByKey(want)
	for i := range got {
		if !sameLock(got[i], want[i]) {
			return fmt.Sprintf("\n got %s\nwant %s", describe(got[i]), describe(want[i]))
		}
	}
	return "no difference"
}

// without shows the names of one list that are not in another, up to a few.
func without(names, others []string) string {
	const shown = 5
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(others, name) })
	if len(rest) > shown {
		return fmt.Sprintf("%q and %d more", rest[:shown], len(rest)-shown)
	}
	return fmt.Sprintf("%q", rest)
}
