package bolthost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/atlock/atlock/go/internal/hostop"
)

// The mark of a migration (src/migrate), and what keeps stock servers away, which look for no mark.
//
// While the mark refuses, the database has another name, that of its place with ".migration" behind, and in its place is a text that is no
// database and says why: the sentinel. A linked server reads it and refuses; a stock server's bbolt finds an invalid database, and the
// server does not start. So no server begins with locks that are elsewhere, nor with none.
//
// Invariants:
//   - From the moment at which a mark that refuses was given until one was given that does not, no server opens the database at its
//     place. What is at the place is always the whole database or the whole sentinel: each change is one rename.
//   - The database's file stays the same one, with its owner, its rights and the lock of who has it open.
//   - Nobody who had opened it under its old name, and waits for its lock, gets that lock: it is kept until such a server has given up.
//   - The mark is in the database, in the bucket of hybrid mode's mark, so that an older copy that is put in its place has none.
//
// Faults survived: a server that is started at any moment; kill -9 and power loss between any two steps. The sentinel comes before the mark, and goes after it: where the mark does not
// refuse and the sentinel is there, the next migration that opens the file takes it away.
//
// Not covered: a server that is suspended while it waits for the lock, and goes on when the migration has ended. Somebody who gives the database its old name by hand, or puts another database in its place. A file system without
// hard links, and an atlantis.db that is a mount of its own, in a container: an error, and nothing was changed.

const (
	keptSuffix   = ".migration"
	newSuffix    = ".migration.new"
	migrationKey = "migration" // in markBucket
	stateMoved   = "moved"
	mostSentinel = 64 << 10

	// patience is longer than stock and this package wait for a file's lock.
	patience = openTimeout + 200*time.Millisecond
)

// ErrMoved is of a file whose locks a migration has moved away, or is moving.
var ErrMoved = errors.New("a migration is or was here")

// sentinel is what is in the database's place. Its first member says so to a person, too.
type sentinel struct {
	NoDatabase string `json:"this_is_no_database"`
	State      string `json:"state"`
}

// movedError is an [ErrMoved] with what the sentinel says.
type movedError struct{ sentinel }

func (e *movedError) Error() string { return e.NoDatabase }
func (e *movedError) Unwrap() error { return ErrMoved }

// readSentinel reads what is in a file, if that is a sentinel.
func readSentinel(file io.ReaderAt) (found sentinel, is bool) {
	text, err := io.ReadAll(io.NewSectionReader(file, 0, mostSentinel))
	if err != nil || len(text) == 0 || text[0] != '{' {
		return sentinel{}, false
	}
	err = json.Unmarshal(text, &found)
	return found, err == nil && found.NoDatabase != ""
}

// Moved is an [ErrMoved] if the file in a folder is a sentinel. It opens no database.
func Moved(dir string) error {
	file, err := os.Open(Path(dir))
	if err != nil {
		return nil // whoever opens it says so
	}
	defer file.Close()
	if found, is := readSentinel(file); is {
		return &movedError{found}
	}
	return nil
}

// whereIs finds the database that belongs at a place: there, or beside the sentinel.
func whereIs(place string) (string, error) {
	kept := place + keptSuffix
	keptInfo, keptErr := os.Stat(kept)
	there, err := os.Open(place)
	switch {
	case errors.Is(err, fs.ErrNotExist) && keptErr == nil:
		return kept, nil
	case errors.Is(err, fs.ErrNotExist):
		return place, nil
	case err != nil:
		return "", err
	}
	defer there.Close()
	_, is := readSentinel(there)
	info, err := there.Stat()
	switch {
	case err != nil:
		return "", err
	case is && keptErr != nil:
		return "", fmt.Errorf("%s says that a migration has moved its locks, and the database that belongs there, %s, is gone: %w", place, kept, keptErr)
	case is:
		return kept, nil
	case keptErr == nil && !os.SameFile(info, keptInfo):
		return "", fmt.Errorf("there are two databases: %s, and %s, which a migration keeps. Move the one away that is not to count", place, kept)
	}
	return place, nil
}

// absolute is the place itself, not a link to it: what is renamed is the file.
func absolute(place string) (string, error) {
	folder, err := filepath.EvalSymlinks(filepath.Dir(place))
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Abs(place)
	}
	if err != nil {
		return "", err
	}
	full := filepath.Join(folder, filepath.Base(place))
	if resolved, err := filepath.EvalSymlinks(full); err == nil {
		full = resolved
	}
	return filepath.Abs(full)
}

// Host is a file that is open.
type Host interface {
	Call(op uint32, input []byte) ([]byte, error)
	Close() error
}

// OpenFile opens the database that belongs at a place for a migration: to look at it, or to change it.
func OpenFile(place string, change bool) (Host, error) {
	if !change {
		return LookToMigrate{place}, nil
	}
	return OpenToMigrate(place)
}

// OpenToMigrate opens the database that belongs at a place, also one with a mark, or makes it, as [Open] does, and takes a sentinel away that
// no mark asks for.
func OpenToMigrate(place string) (*Store, error) {
	place, err := absolute(place)
	if err != nil {
		return nil, err
	}
	file, err := whereIs(place)
	if err != nil {
		return nil, err
	}
	store, err := openFile(file)
	if err != nil {
		return nil, err
	}
	store.place = place
	if err := store.settle(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// settle does what was interrupted: the mark counts.
func (s *Store) settle() error {
	// Another migration may have changed the names before the lock was here.
	if file, err := whereIs(s.place); err != nil {
		return err
	} else if file != s.ground.path {
		return ErrBusy
	}
	var stored storedMigration
	err := s.db.View(func(tx *bolt.Tx) error {
		stored = migrationMark(tx)
		return nil
	})
	if err != nil || stored.Refusal != "" {
		return err
	}
	return s.uncover()
}

// storedMigration is the mark in the database.
type storedMigration struct {
	Mark    *string `json:"mark"`
	Refusal string  `json:"refusal,omitempty"` // what a server is told; "" if it may open the file
	State   string  `json:"state,omitempty"`
}

// migrationMark is empty for none. One that cannot be read is another version's, and told as it is.
func migrationMark(tx *bolt.Tx) (stored storedMigration) {
	bucket := tx.Bucket([]byte(markBucket))
	if bucket == nil {
		return stored
	}
	text := bucket.Get([]byte(migrationKey))
	if text == nil {
		return stored
	}
	if err := json.Unmarshal(text, &stored); err != nil || stored.Mark == nil {
		whole := string(text)
		return storedMigration{Mark: &whole, Refusal: "the mark of a migration that cannot be read"}
	}
	return stored
}

// migrationIn is a question without set.
type migrationIn struct {
	Set *storedMigration `json:"set"`
}

// readMigration answers a question.
func readMigration(tx *bolt.Tx, in migrationIn) ([]byte, error) {
	if in.Set != nil {
		return nil, errors.New("the file is only looked at")
	}
	return json.Marshal(storedMigration{Mark: migrationMark(tx).Mark})
}

// migration answers, or gives the file its mark. It is called by one goroutine at a time, and beside no other operation.
func (s *Store) migration(input []byte) ([]byte, error) {
	var in migrationIn
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, fmt.Errorf("the input: %w", err)
	}
	if in.Set == nil {
		return call(s.db.View, input, readMigration)
	}
	if s.place == "" {
		return nil, errors.New("the file was not opened to migrate")
	}
	refuses := in.Set.Mark != nil && in.Set.Refusal != ""
	if refuses {
		if err := s.cover(sentinel{in.Set.Refusal, in.Set.State}); err != nil {
			return nil, err
		}
	}
	err := s.db.Update(func(tx *bolt.Tx) error { return putMigration(tx, *in.Set) })
	if err == nil && !refuses {
		err = s.uncover()
	}
	return []byte("{}"), err
}

func putMigration(tx *bolt.Tx, set storedMigration) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte(markBucket))
	if err != nil {
		return err
	}
	if set.Mark == nil {
		return bucket.Delete([]byte(migrationKey))
	}
	text, err := json.Marshal(set)
	if err != nil {
		return err
	}
	return bucket.Put([]byte(migrationKey), text)
}

// cover gives the database its other name, and puts the sentinel in its place.
func (s *Store) cover(text sentinel) error {
	kept := s.place + keptSuffix
	isFirst := s.ground.path == s.place
	if isFirst {
		if err := os.Link(s.place, kept); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s must have a second name while its locks are moved, and cannot get it: %w", s.place, err)
		}
	}
	if err := writeSentinel(s.place, text); err != nil {
		return fmt.Errorf("%s must be kept from stock servers while its locks are moved, and cannot be: %w", s.place, err)
	}
	s.ground.path = kept
	if isFirst {
		time.Sleep(patience)
	}
	return nil
}

func writeSentinel(place string, text sentinel) error {
	encoded, err := json.MarshalIndent(text, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(place+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(encoded, '\n'))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(place+newSuffix, place); err != nil {
		return err
	}
	return syncFolder(place)
}

// uncover gives the database its place again.
func (s *Store) uncover() error {
	kept := s.place + keptSuffix
	if s.ground.path == kept {
		if err := os.Rename(kept, s.place); err != nil {
			return err
		}
		s.ground.path = s.place
	} else if err := os.Remove(kept); err != nil { // a second name that was given and not used
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncFolder(s.place)
}

func syncFolder(file string) error {
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// LookToMigrate is the database that belongs at a place, looked at and never written or made; see [Look].
type LookToMigrate struct{ Place string }

// Call answers what tells of the file's content.
func (l LookToMigrate) Call(op uint32, input []byte) ([]byte, error) {
	place, err := absolute(l.Place)
	if err != nil {
		return nil, err
	}
	file, err := whereIs(place)
	if err != nil {
		return nil, err
	}
	switch _, err := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist) && op == hostop.Dump:
		return []byte("[]"), nil
	case errors.Is(err, fs.ErrNotExist) && op == hostop.Migration:
		return []byte(`{"mark":null}`), nil
	}
	switch op {
	case hostop.Dump:
		return look(file, input, dump)
	case hostop.Migration:
		return look(file, input, readMigration)
	}
	return nil, fmt.Errorf("%s is only looked at, and op %d is more than that", file, op)
}

// Close has nothing to close.
func (l LookToMigrate) Close() error { return nil }
