package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"

	"github.com/atlock/atlock/go/internal/release"
)

// Texts that stock's errors contain. Callers show them to users.
const (
	alreadyLockedText = "lock already exists"
	notLockedText     = "no lock exists"
)

func commandBehaviours() []behaviour {
	return []behaviour{
		{name: "Commands/LockCheckUnlock", check: commandLockCheckUnlock},
		{name: "Commands/SecondLockIsRefused", check: secondCommandLock},
		{name: "Commands/UnlockNoneIsAnError", check: unlockNoCommand},
		{name: "Commands/CheckNoneIsNil", check: func(s *scene) error { return commandFree(s.db, command.Apply) }},
		{name: "Commands/EachNameHasItsLock", check: eachCommandHasItsLock},
		{name: "Commands/PlanAndAutoplanShareOne", check: planAndAutoplan},
		{name: "Commands/TimesInWholeSeconds", check: commandTimes},
		{name: "Commands/AtlantisApplyLock", check: applyClient},
		{name: "Commands/StoredAsMarshalled", needs: RawBytes, check: commandStoredAsMarshalled},
	}
}

// commandLock is what a command's lock has to be.
func commandLock(name command.Name, at time.Time) command.Lock {
	return command.Lock{CommandName: name, LockMetadata: command.LockMetadata{UnixTime: at.Unix()}}
}

// commandLocked takes a free command lock and looks it up.
func commandLocked(database release.Database, name command.Name, at time.Time) error {
	got, err := database.LockCommand(name, at)
	if err != nil {
		return fmt.Errorf("LockCommand(%s): %w", name, err)
	}
	return first(
		func() error { return isCommandLock("LockCommand", got, commandLock(name, at)) },
		func() error { return commandHeld(database, name, at) },
	)
}

func commandHeld(database release.Database, name command.Name, at time.Time) error {
	got, err := database.CheckCommandLock(name)
	if err != nil {
		return fmt.Errorf("CheckCommandLock(%s): %w", name, err)
	}
	return isCommandLock("CheckCommandLock", got, commandLock(name, at))
}

func commandFree(database release.Database, name command.Name) error {
	got, err := database.CheckCommandLock(name)
	if err != nil {
		return fmt.Errorf("CheckCommandLock(%s): %w", name, err)
	}
	if got != nil {
		return violated("CheckCommandLock(%s): got %+v, want none", name, *got)
	}
	return nil
}

func commandRefused(database release.Database, name command.Name) error {
	got, err := database.LockCommand(name, fixedTime.Add(time.Hour))
	if err == nil {
		return violated("LockCommand(%s) was granted twice: %+v", name, got)
	}
	return hasText("LockCommand", err, alreadyLockedText)
}

func commandUnlocked(database release.Database, name command.Name) error {
	if err := database.UnlockCommand(name); err != nil {
		return fmt.Errorf("UnlockCommand(%s): %w", name, err)
	}
	return commandFree(database, name)
}

func commandUnlockRefused(database release.Database, name command.Name) error {
	err := database.UnlockCommand(name)
	if err == nil {
		return violated("UnlockCommand(%s) released a lock that nobody holds", name)
	}
	return hasText("UnlockCommand", err, notLockedText)
}

func isCommandLock(call string, got *command.Lock, want command.Lock) error {
	if got == nil || *got != want {
		return violated("%s: got %+v, want %+v", call, got, want)
	}
	return nil
}

// hasText checks the text of an error that has to be there.
func hasText(call string, err error, text string) error {
	if !strings.Contains(err.Error(), text) {
		return violated("%s: the error %q does not contain %q", call, err, text)
	}
	return nil
}

func commandLockCheckUnlock(s *scene) error {
	return first(
		func() error { return commandLocked(s.db, command.Apply, fixedTime) },
		func() error { return commandUnlocked(s.db, command.Apply) },
		func() error { return commandLocked(s.db, command.Apply, fixedTime.Add(time.Minute)) },
	)
}

func secondCommandLock(s *scene) error {
	return first(
		func() error { return commandLocked(s.db, command.Apply, fixedTime) },
		func() error { return commandRefused(s.db, command.Apply) },
		func() error { return commandHeld(s.db, command.Apply, fixedTime) },
	)
}

func unlockNoCommand(s *scene) error {
	return first(
		func() error { return commandUnlockRefused(s.db, command.Apply) },
		func() error { return commandLocked(s.db, command.Apply, fixedTime) },
		func() error { return commandUnlocked(s.db, command.Apply) },
		func() error { return commandUnlockRefused(s.db, command.Apply) },
	)
}

func eachCommandHasItsLock(s *scene) error {
	for i, name := range command.AllCommentCommands {
		if err := commandLocked(s.db, name, fixedTime.Add(time.Duration(i)*time.Second)); err != nil {
			return err
		}
	}
	if err := commandUnlocked(s.db, command.AllCommentCommands[0]); err != nil {
		return err
	}
	for i, name := range command.AllCommentCommands[1:] {
		if err := commandHeld(s.db, name, fixedTime.Add(time.Duration(i+1)*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// The lock's key is the command's text, which is the same for both.
func planAndAutoplan(s *scene) error {
	return first(
		func() error { return commandLocked(s.db, command.Plan, fixedTime) },
		func() error { return commandRefused(s.db, command.Autoplan) },
		func() error { return commandUnlocked(s.db, command.Autoplan) },
		func() error { return commandFree(s.db, command.Plan) },
	)
}

func commandTimes(s *scene) error {
	for _, at := range append(lockTimes(), time.Unix(0, 0), time.Unix(-1, 1), time.Unix(1<<40, 0)) {
		if err := first(
			func() error { return commandLocked(s.db, command.Apply, at) },
			func() error { return commandUnlocked(s.db, command.Apply) },
		); err != nil {
			return err
		}
	}
	return nil
}

// The global apply lock, the way Atlantis's web page uses it.
func applyClient(s *scene) error {
	client := newApplyClient(s.db)
	taken, err := client.LockApply()
	if err != nil {
		return fmt.Errorf("LockApply: %w", err)
	}
	checked, err := client.CheckApplyLock()
	if err != nil {
		return fmt.Errorf("CheckApplyLock: %w", err)
	}
	if !taken.Locked || !checked.Locked || !taken.Time.Equal(checked.Time) {
		return violated("LockApply: %+v, then CheckApplyLock: %+v", taken, checked)
	}
	if err := client.UnlockApply(); err != nil {
		return fmt.Errorf("UnlockApply: %w", err)
	}
	return commandFree(s.db, command.Apply)
}

func commandStoredAsMarshalled(s *scene) error {
	want, err := json.Marshal(commandLock(command.Apply, fixedTime))
	if err != nil {
		return err
	}
	return first(
		func() error { return commandLocked(s.db, command.Apply, fixedTime) },
		func() error { return s.expectBytes(Commands, command.Apply.String(), want) },
	)
}
