package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// writeModfile writes the go.mod and go.sum that the server is built with (go build -modfile) and returns the first one's path:
// this module's, with the release replaced by its edited copy. What the release itself requires is left for the go command to
// add, so that the server gets the versions that the release was made with.
func writeModfile(host host, release release, source, path string) (string, error) {
	text, err := modfileText(host.module, release.Version, source)
	if err != nil {
		return "", err
	}
	sums, err := joinSums(filepath.Join(host.dir, "go.sum"), filepath.Join(source, "go.sum"))
	if err != nil {
		return "", err
	}
	// The go command adds to both files. They begin anew only when they would begin otherwise.
	begin := fmt.Appendf(nil, "// Written by go/cmd/link: %x\n\n", sha256.Sum256(slices.Concat(text, sums)))
	if present, err := os.ReadFile(path); err == nil && bytes.HasPrefix(present, begin) {
		return path, nil
	}
	if err := write(strings.TrimSuffix(path, ".mod")+".sum", sums); err != nil {
		return "", err
	}
	return path, write(path, slices.Concat(begin, text))
}

func modfileText(module *modfile.File, version, source string) ([]byte, error) {
	file, err := modfile.Parse("go.mod", modfile.Format(module.Syntax), nil)
	if err != nil {
		return nil, err
	}
	for _, require := range slices.Clone(file.Require) {
		if require.Indirect {
			err = errors.Join(err, file.DropRequire(require.Mod.Path))
		}
	}
	err = errors.Join(err, file.AddRequire(atlantisPath, version), file.AddReplace(atlantisPath, "", source, ""))
	if err != nil {
		return nil, err
	}
	file.Cleanup()
	return file.Format()
}

// joinSums joins go.sum files.
func joinSums(paths ...string) ([]byte, error) {
	var lines []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		lines = slices.AppendSeq(lines, strings.Lines(string(text)))
	}
	slices.Sort(lines)
	return []byte(strings.Join(slices.Compact(lines), "")), nil
}

// compile builds the server as the release's own build does, except that it needs cgo.
func compile(host host, release release, modfile, output string) error {
	archive := filepath.Join(host.root, "target", "release", "libatlock.a")
	if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: run make lib", archive)
	}
	arguments := []string{"build", "-modfile=" + modfile, "-mod=mod", "-trimpath", "-buildvcs=false",
		"-ldflags=" + linkerFlags(release), "-o", output, "./cmd/atlantis"}
	build := exec.Command("go", arguments...)
	build.Dir = host.dir
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(arguments, " "), err)
	}
	return nil
}

// linkerFlags set what `atlantis version` prints: the release's own version, commit and time.
func linkerFlags(release release) string {
	// The sections that nothing calls are most of what the library brings for programs other than this one.
	flags := "-s -w -extldflags=-Wl,--gc-sections -X main.version=" + release.Version
	if release.Origin.Hash != "" {
		flags += " -X main.commit=" + release.Origin.Hash
	}
	return flags + " -X main.date=" + release.Time.UTC().Format("2006-01-02T15:04:05Z")
}
