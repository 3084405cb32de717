package bolthost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// ground is where the file was opened, and which file that was.
//
// Invariant: no operation succeeds unless, after it, the path still led to the file that is open. A file that was moved, deleted,
// replaced or mounted over would take what is written on and on, and nobody would ever open it again: a rollback would find less than
// was copied, and another server could open a file at the path beside this one.
//
// It is no failure for good: the file may be put back. What was written meanwhile, and told as failed, is in it then.
type ground struct {
	path string
	file os.FileInfo
}

// open opens the file, and remembers which it is.
func (g *ground) open(path string) (*bolt.DB, error) {
	absolute, err := filepath.Abs(path) // the working directory may change
	if err != nil {
		return nil, err
	}
	g.path = absolute
	return bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout, OpenFile: g.openFile})
}

func (g *ground) openFile(name string, flag int, mode os.FileMode) (*os.File, error) {
	file, err := OpenWhole(name, flag, mode)
	if err != nil {
		return nil, err
	}
	if g.file, err = file.Stat(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// check makes an operation's success an error if the file is not at its path any more.
func (g *ground) check(err *error) {
	if *err != nil {
		return
	}
	const advice = "what is written is lost unless the file is put back: stop the server, put it back in the place of what is there now, and start again"
	switch found, failure := os.Stat(g.path); {
	case failure != nil:
		*err = fmt.Errorf("BoltDB's file was moved or deleted while it was open (%w); %s", failure, advice)
	case !os.SameFile(found, g.file):
		*err = fmt.Errorf("BoltDB's file was replaced while it was open: another one is at %s; %s", g.path, advice)
	}
}
