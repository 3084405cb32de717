package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/atlock/atlock/go/releases"
)

// writeModfile writes the go.mod and go.sum that the server is built with (go build -modfile) and returns the first one's path:
// this module's, with the release replaced by its edited copy. What the release itself requires is left for the go command to
// add, so that the server gets the versions that the release was made with.
func writeModfile(host host, release release, source, path string) (string, error) {
	// The program has this path in it, which is not to be one of this machine.
	relative, err := filepath.Rel(host.dir, source)
	if err != nil {
		return "", err
	}
	text, err := modfileText(host.module, release.Version, filepath.ToSlash(relative))
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

// compile builds the server as the release's own build does, except that it needs cgo. A program that has C and Rust in it wants what pure Go can do
// without: an address that changes with each start, and tables that nobody can write to once it runs.
func compile(host host, release release, modfile, output string) error {
	arguments := append([]string{"build", "-v"}, goFlags(modfile, release.Version)...)
	if !isStatic(os.Getenv("CGO_LDFLAGS")) {
		arguments = append(arguments, "-buildmode=pie")
	}
	arguments = append(arguments, "-trimpath", "-buildvcs=false", "-ldflags="+linkerFlags(release), "-o", output, "./cmd/atlantis")
	build := exec.Command("go", arguments...)
	build.Dir = host.dir
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if err := runVisibly(build, os.Stderr); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(arguments, " "), err)
	}
	return nil
}

// isStatic tells whether the linker is told to link everything statically, as for musl (scripts/build-release): Go has no such program that is
// position-independent, too.
func isStatic(flags string) bool { return slices.Contains(strings.Fields(flags), "-static") }

// goFlags are the flags with which the go command compiles this module against a release.
func goFlags(modfile, version string) []string {
	flags := []string{"-modfile=" + modfile, "-mod=mod"}
	if tags := releases.Tags(version); len(tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(tags, ","))
	}
	return flags
}

// linkerFlags set what `atlantis version` prints: the release's own version, commit and time.
func linkerFlags(release release) string {
	// The sections that nothing calls are most of what the library brings for programs other than this one. All symbols are bound at the start, and
	// then their table is read-only.
	flags := "-s -w -extldflags=-Wl,--gc-sections,-z,relro,-z,now -X main.version=" + release.Version
	if release.Origin.Hash != "" {
		flags += " -X main.commit=" + release.Origin.Hash
	}
	return flags + " -X main.date=" + release.Time.UTC().Format("2006-01-02T15:04:05Z")
}
