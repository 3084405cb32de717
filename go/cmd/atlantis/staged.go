package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// staged is what a settings file is going to be, beside it.
//
// Invariant: the file names no mode that the server has not had open: it is replaced, in one step, when the new stores are open. A server that is
// killed before starts with the settings of before, by the same rules as after any end; one that is killed later, with the new ones.
type staged struct {
	path   string // the settings file, without links
	beside string
}

// stage writes what is to be in a settings file beside it, with the file's rights. An error says that the file cannot be written.
func stage(path string, text []byte) (staged, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return staged{}, err
	}
	now, err := os.Stat(target)
	if err != nil {
		return staged{}, err
	}
	pattern := "." + filepath.Base(target) + ".new-*"
	// What a server that was killed left.
	left, err := filepath.Glob(filepath.Join(filepath.Dir(target), pattern))
	if err != nil {
		return staged{}, err
	}
	for _, path := range left {
		_ = os.Remove(path) // what cannot be removed is in nobody's way
	}
	file, err := os.CreateTemp(filepath.Dir(target), pattern)
	if err != nil {
		return staged{}, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	made := staged{target, file.Name()}
	_, err = file.Write(text)
	err = errors.Join(err, file.Chmod(now.Mode().Perm()))
	if owner, ok := now.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		err = errors.Join(err, file.Chown(int(owner.Uid), int(owner.Gid)))
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		made.drop()
		return staged{}, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return made, nil
}

// commit puts it in the file's place.
func (s staged) commit() error {
	if err := os.Rename(s.beside, s.path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// drop removes it; after a commit nothing is left of it.
func (s staged) drop() {
	if s.beside != "" {
		_ = os.Remove(s.beside)
	}
}
