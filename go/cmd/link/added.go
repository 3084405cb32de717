package main

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/mod/semver"
)

// laid are the files that are laid into the copy of a release which lacks what newer ones have: each only adds to its package, and nothing
// of Atlantis's own code calls it, so that the server without settings stays stock.
//
//go:embed all:_added
var laid embed.FS

// layers are the folders of those files, with the releases that they are for: from the first one on, and before the second one.
var layers = []struct{ folder, from, before string }{
	{"before-v0.40", "v0.0.0", "v0.40.0"},
	{"v0.40-to-v0.45", "v0.40.0", "v0.46.0"},
	{"before-v0.46", "v0.0.0", "v0.46.0"},
}

// addedTo are the files that a release lacks, by their paths in its module.
func addedTo(version string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, layer := range layers {
		if semver.Compare(version, layer.from) < 0 || semver.Compare(version, layer.before) >= 0 {
			continue
		}
		root := path.Join("_added", layer.folder)
		err := fs.WalkDir(laid, root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := laid.ReadFile(name)
			files[strings.TrimPrefix(name, root+"/")] = append([]byte("// Laid here by go/cmd/link of atlock.\n\n"), text...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("what Atlantis %s lacks: %w", version, err)
		}
	}
	return files, nil
}
