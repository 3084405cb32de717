package bolthost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/atlock/atlock/go/internal/hostop"
)

// Look is the file in a folder, looked at and never written or made: each call opens it and closes it again. A file that is not there,
// or whose locks a migration has moved away, has no entries.
type Look struct{ Dir string }

// Call answers [hostop.Dump] alone. It waits for another process as [Open] does.
func (l Look) Call(op uint32, input []byte) ([]byte, error) {
	file := Path(l.Dir)
	if op != hostop.Dump {
		return nil, fmt.Errorf("%s is only looked at, and op %d is more than that", file, op)
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return []byte("[]"), nil
	}
	found, err := look(file, input, dump)
	if moved := (*movedError)(nil); errors.As(err, &moved) && moved.State == stateMoved {
		return []byte("[]"), nil // its locks are elsewhere
	}
	return found, err
}

// look asks a file one question, and closes it again.
func look[In any](file string, input []byte, question func(*bolt.Tx, In) ([]byte, error)) ([]byte, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: openTimeout, OpenFile: OpenWhole})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", file, err)
	}
	found, err := call(db.View, input, question)
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", file, err)
	}
	return found, nil
}

// Close has nothing to close.
func (l Look) Close() error { return nil }
