package atlock

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/runatlantis/atlantis/server/events/command"
)

func (l *library) LockCommand(name command.Name, lockTime time.Time) (*command.Lock, error) {
	lock := command.Lock{CommandName: name, LockMetadata: command.LockMetadata{UnixTime: lockTime.Unix()}}
	value, err := json.Marshal(lock)
	if err != nil {
		return nil, fmt.Errorf("serializing the lock: %w", err)
	}
	grant, err := l.Client.LockCommand(name.String(), value)
	if err == nil && !grant.Acquired {
		err = ErrLockExists
	}
	if err != nil {
		return nil, commandFailed(err)
	}
	return &lock, nil
}

func (l *library) UnlockCommand(name command.Name) error {
	released, err := l.Client.UnlockCommand(name.String())
	if err == nil && released == nil {
		err = ErrNoLock
	}
	if err != nil {
		return commandFailed(err)
	}
	return nil
}

func (l *library) CheckCommandLock(name command.Name) (*command.Lock, error) {
	value, err := l.Client.CheckCommandLock(name.String())
	if err != nil {
		return nil, commandFailed(err)
	}
	if value == nil {
		return nil, nil
	}
	lock := new(command.Lock)
	if err := decode(value, lock); err != nil {
		return nil, commandFailed(undecoded(err))
	}
	return lock, nil
}

// commandFailed is how stock begins these texts.
func commandFailed(err error) error { return fmt.Errorf("db transaction failed: %w", err) }
