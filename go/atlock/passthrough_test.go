package atlock

import (
	"errors"
	"testing"
	"time"

	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/events/models"
)

// stockLike is a database whose List waits, or panics as stock's now and then does.
type stockLike struct {
	db.Database
	listing chan struct{}
	proceed chan struct{}
	closed  bool
}

func (s *stockLike) List() ([]models.ProjectLock, error) {
	s.listing <- struct{}{}
	<-s.proceed
	if s.closed {
		panic("the database was closed under a call")
	}
	return nil, nil
}

func (s *stockLike) Ping() error { panic("data changing underfoot") }

func (s *stockLike) Close() error {
	s.closed = true
	return nil
}

func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	legacy := &stockLike{listing: make(chan struct{}), proceed: make(chan struct{})}
	database, err := Open(Config{}, WithLegacy(legacy))
	if err != nil {
		t.Fatal(err)
	}
	listed, closed := make(chan error), make(chan error)
	go func() { _, err := database.List(); listed <- err }()
	<-legacy.listing
	go func() { closed <- database.Close() }()
	select {
	case <-closed:
		t.Fatal("Close did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(legacy.proceed)
	if err := errors.Join(<-listed, <-closed); err != nil {
		t.Error(err)
	}
	if _, err := database.List(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A call that panicked is over: Close must not wait for it.
func TestCloseAfterAPanic(t *testing.T) {
	database, err := Open(Config{}, WithLegacy(&stockLike{}))
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not come through")
			}
		}()
		_ = database.Ping()
	}()
	closed := make(chan error)
	go func() { closed <- database.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Close waits for a call that panicked")
	}
}
