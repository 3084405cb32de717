// Package bolthost is Atlantis's BoltDB file as a host store (docs/host-store.md): the library's own way to it, byte for byte,
// which db.Database is not. A stock server that opens the file later finds every lock.
//
// Invariants:
//   - Each operation is one transaction: all of it is on disk when it returns, or none of it.
//   - A lock is granted only where nothing is stored, and released only if [release.admits] its value: in doubt, it stays.
//   - What is told as done is in the file at its path ([ground]).
//   - A value comes back byte for byte as it was given, but for white space around it in answers.
package bolthost

import (
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	bolt "go.etcd.io/bbolt"
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

// Store is an open BoltDB file. Its methods may be called from any goroutine at once.
type Store struct {
	db     *bolt.DB
	ground ground
	// lastToken is used in write transactions only, of which there is one at a time.
	lastToken int64
}

// Open opens the file in a folder, or makes it, with the buckets, the wait for another process and the error texts of stock's
// boltdb.New. Old lock keys are moved as there, but for its defects (docs/defects.md).
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating data dir: %w", err)
	}
	var here ground
	db, err := here.open(path.Join(dir, fileName))
	if errors.Is(err, bolt.ErrTimeout) {
		return nil, errors.New("starting BoltDB: timeout (a possible cause is another Atlantis instance already running)")
	}
	if err != nil {
		return nil, fmt.Errorf("starting BoltDB: %w", err)
	}
	if err := db.Update(prepare); err != nil {
		return nil, fmt.Errorf("starting BoltDB: %w", errors.Join(err, db.Close()))
	}
	return &Store{db: db, ground: here}, nil
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
	type move struct{ from, to, value []byte }
	var moves []move
	err := bucket.ForEach(func(key, value []byte) error {
		lock, err := readLock(value)
		if err == nil && string(key) == lock.oldKey() {
			moves = append(moves, move{clone(key), []byte(lock.key()), clone(value)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range moves {
		if bucket.Get(m.to) != nil { // also by a move before this one: two old keys can have one present key
			continue
		}
		if err := errors.Join(bucket.Put(m.to, m.value), bucket.Delete(m.from)); err != nil {
			return err
		}
	}
	return nil
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
