// Package bolthost is Atlantis's BoltDB file as a host store (docs/host-store.md): the library's own way to it, byte for byte,
// which db.Database is not. A stock server that opens the file later finds every lock.
//
// Invariants:
//   - Each operation is one transaction: all of it is on disk when it returns, or none of it.
//   - A lock is granted only where nothing is stored, and released only if [release.admits] its value: in doubt, it stays.
//   - What is told as done is in the file at its path ([ground]).
//   - A value comes back byte for byte as it was given, but for white space around it in answers.
//   - A damaged file is an error, [ErrDamaged]: it is checked before bbolt maps it, under the lock that keeps others from writing to it.
//   - A file whose locks a migration has moved away, or is moving, is an error, [ErrMoved] (moved.go).
//   - Opening writes nothing where there is nothing to prepare: whether anybody wrote since the mark is still to be told.
package bolthost

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/atlock/atlock/go/internal/boltcheck"
)

// The names and the wait are those of Atlantis v0.47.1, server/core/boltdb/boltdb.go.
const (
	fileName       = "atlantis.db"
	locksBucket    = "runLocks"
	pullsBucket    = "pulls"
	commandsBucket = "globalLocks"
	commandSuffix  = "/lock"
	openTimeout    = time.Second
)

// markBucket is ours: stock looks at its own buckets only.
const (
	markBucket = "atlock"
	markKey    = "mark"
)

// ErrDamaged is of a file that is not whole, and not opened.
var ErrDamaged = errors.New("the file is damaged")

// ErrBusy is of a file that another process has open.
var ErrBusy = errors.New("starting BoltDB: timeout (a possible cause is another Atlantis instance already running)")

// Store is an open BoltDB file. Its methods may be called from any goroutine at once.
type Store struct {
	db     *bolt.DB
	ground ground
	// lastToken is used in write transactions only, of which there is one at a time.
	lastToken int64
	place     string // where the file belongs, if it was opened to migrate
}

// Path is the file in a folder.
func Path(dir string) string { return path.Join(dir, fileName) }

// Open opens the file in a folder, or makes it, with the buckets, the wait for another process and the error texts of stock's
// boltdb.New. Old lock keys are moved as there, but for its defects (docs/defects.md).
func Open(dir string) (*Store, error) {
	return openFile(Path(dir))
}

func openFile(file string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("creating data dir: %w", err)
	}
	var here ground
	db, err := here.open(file)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("starting BoltDB: %w", err)
	}
	isPrepared := false
	err = db.View(func(tx *bolt.Tx) error {
		isPrepared = prepared(tx)
		return nil
	})
	if err == nil && !isPrepared {
		err = db.Update(prepare)
	}
	if err != nil {
		return nil, fmt.Errorf("starting BoltDB: %w", errors.Join(err, db.Close()))
	}
	return &Store{db: db, ground: here}, nil
}

// Check tells whether the file in a folder is whole, or not there, before somebody else's code opens it. Who opens it in between and
// writes to it leaves it whole, too. It holds the lock meanwhile, and waits for it as Open does.
func Check(dir string) error {
	file, err := OpenWhole(Path(dir), os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrBusy
	case err != nil:
		return fmt.Errorf("starting BoltDB: %w", err)
	}
	return file.Close()
}

// MoveAside gives the file in a folder a name that tells when it was found damaged, and returns that.
func MoveAside(dir string) (string, error) {
	from := Path(dir)
	to := fmt.Sprintf("%s.damaged-%d", from, time.Now().Unix())
	if _, err := os.Lstat(to); err == nil {
		return "", fmt.Errorf("moving the damaged file aside: %s is there already", to)
	}
	if err := os.Rename(from, to); err != nil {
		return "", fmt.Errorf("moving the damaged file aside: %w", err)
	}
	return to, nil
}

// OpenWhole opens a file for bbolt, as its option OpenFile, and refuses it if it is not whole, or a migration's sentinel. It locks the file for it; bbolt locks it
// once more (flock(2) counts by open file).
func OpenWhole(name string, flag int, mode os.FileMode) (*os.File, error) {
	file, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	if err := lockFile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	info, err := file.Stat()
	if found, is := readSentinel(file); is {
		err = &movedError{found}
	}
	if err == nil {
		if err = boltcheck.Check(file, info.Size()); err != nil {
			err = fmt.Errorf("%w: %s: %w; put a backup in its place, or move it away to begin without its locks", ErrDamaged, name, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lockFile waits as bbolt does.
func lockFile(file *os.File) error {
	const pause = 50 * time.Millisecond
	for deadline := time.Now().Add(openTimeout - pause); ; time.Sleep(pause) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(deadline) {
			return bolterrors.ErrTimeout
		}
	}
}

// prepared tells whether prepare has nothing to do.
func prepared(tx *bolt.Tx) bool {
	for _, name := range []string{locksBucket, pullsBucket, commandsBucket} {
		if tx.Bucket([]byte(name)) == nil {
			return false
		}
	}
	moves, err := oldKeys(tx.Bucket([]byte(locksBucket)))
	return err == nil && len(moves) == 0
}

func prepare(tx *bolt.Tx) error {
	for _, name := range []string{locksBucket, pullsBucket, commandsBucket} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("creating bucket %q: %w", name, err)
		}
	}
	if err := moveOldKeys(tx.Bucket([]byte(locksBucket))); err != nil {
		return fmt.Errorf("moving old lock keys: %w", err)
	}
	return nil
}

// moveOldKeys gives the locks of releases before v0.40 their present key. An old key is one that the value's fields give without
// the project: stock looks at the key alone, and so misses those with a slash in the path, and deletes present keys with a line
// break. Where the present key is taken, both stay.
func moveOldKeys(bucket *bolt.Bucket) error {
	moves, err := oldKeys(bucket)
	if err != nil {
		return err
	}
	for _, m := range moves {
		if bucket.Get(m.to) != nil { // a move before this one: two old keys can have one present key
			continue
		}
		if err := errors.Join(bucket.Put(m.to, m.value), bucket.Delete(m.from)); err != nil {
			return err
		}
	}
	return nil
}

type move struct{ from, to, value []byte }

// errCurrentKeys is of a release before v0.40 on a file that a newer one wrote.
var errCurrentKeys = errors.New("the file has locks under the keys of Atlantis v0.40 and later, which this release would grant again: start that " +
	"newer release, and have those locks released before this one starts")

// oldKeys are those to be moved: none in a release that makes such keys, which finds no others.
func oldKeys(bucket *bolt.Bucket) ([]move, error) {
	var moves []move
	err := bucket.ForEach(func(key, value []byte) error {
		lock, err := readLock(value)
		if hasOldKeys {
			if err == nil && string(key) == lock.newKey() {
				return errCurrentKeys
			}
			return nil
		}
		if err == nil && string(key) == lock.oldKey() && bucket.Get([]byte(lock.key())) == nil {
			moves = append(moves, move{clone(key), []byte(lock.key()), clone(value)})
		}
		return nil
	})
	return moves, err
}

// Close waits for the transactions under way.
func (s *Store) Close() error {
	return s.db.Close()
}

// nextToken is larger than every token before it: the time in microseconds, or one more than the last.
func (s *Store) nextToken() int64 {
	s.lastToken = max(s.lastToken+1, time.Now().UnixMicro())
	return s.lastToken
}

// clone copies what is BoltDB's memory, and gone after the transaction. It is never nil.
func clone(bytes []byte) []byte {
	return append([]byte{}, bytes...)
}
