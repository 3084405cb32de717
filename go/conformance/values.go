package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
)

func valueBehaviours() []behaviour {
	return []behaviour{
		{name: "Values/TimeIsTheSameInstantInAnyZone", check: timeSurvives},
		{name: "Values/GetLockTimeIsLocal", check: getLockTimeIsLocal},
		{name: "Values/RefusalKeepsTheZone", check: refusalKeepsTheZone},
		{name: "Values/NilAndEmptyTeamsAreKeptApart", check: nilAndEmptyTeams},
		{name: "Values/LargeBody", check: largeBody},
		{name: "Values/StoredAsMarshalled", needs: RawBytes, check: storedAsMarshalled},
		{name: "Values/UnknownFieldsSurvive", needs: RawBytes, check: unknownFieldsSurvive},
	}
}

// lockTimes returns times in several zones, with offsets that are not whole
// hours, and with and without nanoseconds.
func lockTimes() []time.Time {
	return []time.Time{
		fixedTime,
		fixedTime.Local(),
		fixedTime.In(time.FixedZone("", -8*60*60)),
		fixedTime.In(time.FixedZone("Kathmandu", 5*60*60+45*60)),
		fixedTime.In(time.FixedZone("", -3*60*60-30*60)).Add(-1),
		fixedTime.Truncate(time.Second),
		time.Now(), // with a monotonic reading, as Atlantis does
		time.Time{},
	}
}

// eachTime takes and releases one lock per time and checks it in between.
func eachTime(s *scene, check func(lock models.ProjectLock) error) error {
	for _, instant := range lockTimes() {
		lock := simpleLock("acme/infra", ".", 5)
		lock.Time = instant
		err := first(
			func() error { return granted(s.db, lock) },
			func() error { return check(lock) },
			func() error { return released(s.db, lock) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func timeSurvives(s *scene) error {
	return eachTime(s, func(lock models.ProjectLock) error {
		return first(
			func() error { return held(s.db, lock) },
			func() error { return listed(s.db, lock) },
		)
	})
}

// The lock page shows the time as it is returned, so it has to be in the
// server's zone.
func getLockTimeIsLocal(s *scene) error {
	return eachTime(s, func(lock models.ProjectLock) error {
		got, err := s.db.GetLock(lock.Project, lock.Workspace)
		if err != nil {
			return fmt.Errorf("GetLock: %w", err)
		}
		if err := isLock("GetLock", got, lock); err != nil {
			return err
		}
		if got.Time.Location() != time.Local {
			return violated("GetLock: the time %v is in zone %v, want time.Local", got.Time, got.Time.Location())
		}
		return nil
	})
}

// All calls but GetLock return the zone that was stored.
func refusalKeepsTheZone(s *scene) error {
	return eachTime(s, func(lock models.ProjectLock) error {
		_, current, err := s.db.TryLock(rivalOf(lock))
		if err != nil {
			return fmt.Errorf("TryLock: %w", err)
		}
		want, got := lock.Time.Format(time.RFC3339Nano), current.Time.Format(time.RFC3339Nano)
		if got != want {
			return violated("TryLock: the holder's time is %s, want %s", got, want)
		}
		return nil
	})
}

func nilAndEmptyTeams(s *scene) error {
	for _, teams := range [][]string{nil, {}, {""}} {
		lock := simpleLock("acme/infra", ".", 5)
		setTeams(&lock, teams)
		err := first(
			func() error { return granted(s.db, lock) },
			func() error { return refused(s.db, rivalOf(lock), lock) },
			func() error { return held(s.db, lock) },
			func() error { return listed(s.db, lock) },
			func() error { return released(s.db, lock) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// GitHub allows 64 KiB for a pull's description, others more.
func largeBody(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	setBody(&lock, strings.Repeat("0123456789ABCDE\n", 1<<14))
	return first(
		func() error { return granted(s.db, lock) },
		func() error { return refused(s.db, rivalOf(lock), lock) },
		func() error { return held(s.db, lock) },
		func() error { return releasedByPull(s.db, "acme/infra", 5, lock) },
	)
}

// A stock server reads what we wrote: every byte is the one it would have written.
func storedAsMarshalled(s *scene) error {
	for i, instant := range lockTimes() {
		lock := newLock("acme/infra", fmt.Sprintf("path/%d", i), "default", "<project> & \u2028", 5)
		lock.Time = instant
		want, err := json.Marshal(lock)
		if err != nil {
			return err
		}
		err = first(
			func() error { return granted(s.db, lock) },
			func() error { return s.expectBytes(Locks, keyOf(lock), want) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// A later Atlantis release may add fields. Whatever only reads a lock leaves
// its bytes alone, and an older release can still release it.
func unknownFieldsSurvive(s *scene) error {
	lock := simpleLock("acme/infra", ".", 5)
	known, err := json.Marshal(lock)
	if err != nil {
		return err
	}
	future := bytes.Replace(known, []byte(`{"Project":{`), []byte(`{ "Queue": [1, 2.50, {"a":null}], "Project":{"Tier":"gold",`), 1)
	return first(
		func() error { return s.put(Locks, keyOf(lock), future) },
		func() error { return held(s.db, lock) },
		func() error { return listed(s.db, lock) },
		func() error { return refused(s.db, rivalOf(lock), lock) },
		func() error { return notReleased(s.db.UnlockIfOwnedByPull(lock.Project, lock.Workspace, 6)) },
		func() error { return releasedByPull(s.db, "acme/infra", 6) },
		func() error { return s.expectBytes(Locks, keyOf(lock), future) },
		func() error { return released(s.db, lock) },
	)
}
