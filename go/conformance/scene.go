package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/atlock/atlock/go/internal/release"
)

const (
	roundsVariable = "ATLOCK_CONFORMANCE_ROUNDS"
	seedVariable   = "ATLOCK_CONFORMANCE_SEED"
	defaultRounds  = 200
)

// scene is what one behaviour acts on: a fresh store, open.
type scene struct {
	db    release.Database
	store Store
	// rounds is how often a race is tried.
	rounds int
	// random is seeded; its seed is in the test's log.
	random *rand.Rand
}

// settings are the same for all behaviours of a run.
type settings struct {
	rounds int
	seed   uint64
}

// readSettings reads the environment. It logs the seed, so that a run can be replayed.
func readSettings(t *testing.T) settings {
	t.Helper()
	s := settings{rounds: defaultRounds, seed: uint64(time.Now().UnixNano())}
	if text := os.Getenv(roundsVariable); text != "" {
		rounds, err := strconv.Atoi(text)
		if err != nil || rounds < 1 {
			t.Fatalf("%s=%q: want a positive number", roundsVariable, text)
		}
		s.rounds = rounds
	}
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q: want a number", seedVariable, text)
		}
		s.seed = seed
	}
	t.Logf("%s=%d %s=%d", roundsVariable, s.rounds, seedVariable, s.seed)
	return s
}

// try runs one behaviour on a fresh store of the subject.
func (b behaviour) try(t *testing.T, subject Subject, settings settings) (err error) {
	t.Helper()
	store := subject.NewStore(t)
	if err := store.complies(subject.Capabilities); err != nil {
		return err
	}
	s := &scene{
		store:  store,
		rounds: settings.rounds,
		random: rand.New(rand.NewPCG(settings.seed, 0)),
	}
	if err := s.open(); err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	return b.check(s)
}

func (s Store) complies(capabilities Capability) error {
	if capabilities.has(RawBytes) && s.Raw == nil {
		return errors.New("the subject claims RawBytes, but Store.Raw is nil")
	}
	if capabilities.has(ManyProcesses) && s.Spec.Opener == "" {
		return errors.New("the subject claims ManyProcesses, but Store.Spec is empty")
	}
	return nil
}

func (s *scene) open() error {
	database, err := s.store.Open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.db = database
	return nil
}

// close closes the database; it does nothing when it is closed already.
func (s *scene) close() error {
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// reopen stands for a restart of the server.
func (s *scene) reopen() error { return s.offline(func() error { return nil }) }

// offline closes the database, acts, and opens it again.
func (s *scene) offline(act func() error) error {
	if err := s.close(); err != nil {
		return err
	}
	if err := act(); err != nil {
		return err
	}
	return s.open()
}

// put writes raw bytes while the database is closed.
func (s *scene) put(table Table, key string, value []byte) error {
	return s.offline(func() error { return s.store.Raw.Put(table, key, value) })
}

// expectBytes checks the stored bytes of a key while the database is closed.
func (s *scene) expectBytes(table Table, key string, want []byte) error {
	var outcome error
	err := s.offline(func() error {
		got, found, err := s.store.Raw.Get(table, key)
		switch {
		case err != nil:
			return err
		case !found:
			outcome = violated("nothing is stored under %q, want %s", abbreviate(key), abbreviate(string(want)))
		case string(got) != string(want):
			outcome = violated("stored under %q:\n got %s\nwant %s", abbreviate(key), abbreviate(string(got)), abbreviate(string(want)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return outcome
}

// first returns the first error of a list of steps. The steps run in order,
// each only after all before it succeeded.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
