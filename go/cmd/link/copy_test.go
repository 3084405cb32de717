package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := write(filepath.Join(dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"go.mod": "module m\n", "go.sum": "", "LICENSE": "free", "README.md": "no", "main.go": "no",
		"cmd/a.go": "package cmd\n", "testdrive/a.go": "package testdrive\n",
		"server/server.go": "package server\n", "server/server_test.go": "no", "server/testdata/x": "no",
		"server/core/x.go": "package core\n", "server/static/logo": "logo",
	})
	return dir
}

func mark(_ string, sources map[string][]byte) (map[string][]byte, error) {
	if len(sources) != 1 {
		return nil, errors.New("more than the package's own sources")
	}
	return map[string][]byte{"server.go": append(sources["server.go"], "// edited\n"...), "added.go": []byte("package server\n")}, nil
}

func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestCopyModule(t *testing.T) {
	source, target := module(t), filepath.Join(t.TempDir(), "copy")
	if err := copyModule(source, target, mark, nil); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"go.mod": "module m\n", "go.sum": "", "LICENSE": "free", "cmd/a.go": "package cmd\n", "testdrive/a.go": "package testdrive\n",
		"server/server.go": "package server\n// edited\n", "server/added.go": "package server\n",
		"server/core/x.go": "package core\n", "server/static/logo": "logo",
	}
	got := listing(t, target)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s is %q, want %q", name, got[name], text)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("more than wanted: %v", got)
	}
}

// Again, over what is there: unchanged files keep their time, changed ones are mended, and others go.
func TestCopyModuleAgain(t *testing.T) {
	source, target := module(t), t.TempDir()
	if err := copyModule(source, target, mark, nil); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name := range listing(t, target) {
		if err := os.Chtimes(filepath.Join(target, name), before, before); err != nil {
			t.Fatal(err)
		}
	}
	writeFiles(t, target, map[string]string{"server/server.go": "changed", "server/old.go": "package old\n"})
	if err := copyModule(source, target, mark, nil); err != nil {
		t.Fatal(err)
	}
	got := listing(t, target)
	if _, stays := got["server/old.go"]; stays || got["server/server.go"] != "package server\n// edited\n" {
		t.Errorf("got %v", got)
	}
	info, err := os.Stat(filepath.Join(target, "cmd/a.go"))
	if err != nil || !info.ModTime().Equal(before) {
		t.Errorf("an unchanged file was written: %v, %v", info.ModTime(), err)
	}
}

func TestCopyModuleRefuses(t *testing.T) {
	target := filepath.Join(t.TempDir(), "copy")
	err := copyModule(t.TempDir(), target, mark, nil)
	if err == nil || !strings.Contains(err.Error(), "is not the module that was expected") {
		t.Errorf("got %v", err)
	}
	refusal := errors.New("another shape")
	err = copyModule(module(t), target, func(string, map[string][]byte) (map[string][]byte, error) { return nil, refusal }, nil)
	if !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was written")
	}
}
