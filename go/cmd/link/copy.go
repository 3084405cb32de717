package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// parts are what the server is built from. The rest of the module is documentation, deployment and tests.
var parts = []string{"cmd", "server", "testdrive", "go.mod", "go.sum", "LICENSE"}

// serverDir is where NewServer is.
const serverDir = "server"

// An edit takes the sources of one package by file name, and returns those that it changes or adds.
type edit func(dir string, sources map[string][]byte) (map[string][]byte, error)

// copyModule makes target the parts of a module, with the edit applied to the package in serverDir, and other files beside. Files that are
// as they should be are not written, so that nothing is built anew without a reason; files that should not be there are removed.
func copyModule(module, target string, edit edit, added map[string][]byte) error {
	files := map[string][]byte{}
	for _, part := range parts {
		if err := read(module, part, files); err != nil {
			return fmt.Errorf("%s is not the module that was expected: %w", module, err)
		}
	}
	sources := map[string][]byte{}
	for path, text := range files {
		if filepath.Dir(path) == serverDir && strings.HasSuffix(path, ".go") {
			sources[filepath.Base(path)] = text
		}
	}
	edited, err := edit(filepath.Join(module, serverDir), sources)
	if err != nil {
		return err
	}
	for name, text := range edited {
		files[filepath.Join(serverDir, name)] = text
	}
	for path, text := range added {
		if _, taken := files[path]; taken {
			return &shapeError{filepath.Join(module, path), "no such file", "one"}
		}
		files[path] = text
	}
	if err := removeOthers(target, files); err != nil {
		return err
	}
	for path, text := range files {
		if err := write(filepath.Join(target, path), text); err != nil {
			return err
		}
	}
	return nil
}

// read reads a file, or a folder's files without tests.
func read(module, part string, files map[string][]byte) error {
	return filepath.WalkDir(filepath.Join(module, part), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return filepath.SkipDir
		case entry.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(module, path)
		files[name] = text
		return err
	})
}

func removeOthers(target string, files map[string][]byte) error {
	err := filepath.WalkDir(target, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(target, path)
		if err != nil {
			return err
		}
		if _, wanted := files[name]; wanted {
			return nil
		}
		return os.Remove(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write writes a file unless it has this text.
func write(path string, text []byte) error {
	if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
