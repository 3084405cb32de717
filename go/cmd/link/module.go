package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// host is the Go module that the server is built in: this one.
type host struct {
	root     string // folder of the repository
	dir      string // folder of the module
	module   *modfile.File
	atlantis string // the release of Atlantis that it requires
}

// release is a released module in the module cache.
type release struct {
	Version string
	Dir     string
	Info    string // path of a file
	Error   string
	Origin  struct{ Hash string }
	Time    time.Time `json:"-"`
}

func findHost() (host, error) {
	out, err := output("go", "env", "GOMOD")
	if err != nil {
		return host{}, err
	}
	path := strings.TrimSpace(string(out))
	if filepath.Base(path) != "go.mod" {
		return host{}, errors.New("not inside a Go module: run it in the repository's folder go")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return host{}, err
	}
	module, err := modfile.Parse(path, text, nil)
	if err != nil {
		return host{}, err
	}
	dir := filepath.Dir(path)
	found := host{root: filepath.Dir(dir), dir: dir, module: module}
	for _, require := range module.Require {
		if require.Mod.Path == atlantisPath {
			found.atlantis = require.Mod.Version
			return found, nil
		}
	}
	return host{}, fmt.Errorf("%s requires no %s: run it in the repository's folder go", path, atlantisPath)
}

// download brings a release into the module cache, if it is not there, and tells where.
func download(version string) (release, error) {
	out, err := output("go", "mod", "download", "-json", atlantisPath+"@"+version)
	var found release
	if jsonErr := json.Unmarshal(out, &found); jsonErr != nil {
		return release{}, errors.Join(err, jsonErr)
	}
	if found.Error != "" {
		return release{}, fmt.Errorf("Atlantis %s cannot be had: %s", version, found.Error)
	}
	if err != nil {
		return release{}, err
	}
	if found.Version != version {
		return release{}, fmt.Errorf("-version %s is not a release, it stands for %s: give that", version, found.Version)
	}
	text, err := os.ReadFile(found.Info)
	if err != nil {
		return release{}, err
	}
	var info struct{ Time time.Time }
	if err := json.Unmarshal(text, &info); err != nil {
		return release{}, fmt.Errorf("reading %s: %w", found.Info, err)
	}
	found.Time = info.Time
	return found, nil
}

// output runs a program and returns what it wrote to its standard output. Its errors go into the error.
func output(name string, arguments ...string) ([]byte, error) {
	out, err := exec.Command(name, arguments...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return out, fmt.Errorf("%s %s: %w", name, strings.Join(arguments, " "), err)
	}
	return out, nil
}
