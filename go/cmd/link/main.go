// Link builds the real Atlantis server with atlock inside.
//
//	go run ./cmd/link [-version release] [-o file]
//
// It runs in the folder of the Go module, and needs libatlock.a (make lib). Atlantis has no hook for a database of others, so
// this copies what the server needs of the released module into build/atlantis-VERSION/, which git ignores, adds one case to the
// copy, and builds go/cmd/atlantis with it. Without -version it takes the release in go.mod, and writes build/atlantis.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atlock/atlock/go/releases"
)

const atlantisPath = "github.com/runatlantis/atlantis"

func main() {
	version := flag.String("version", "", "Atlantis release to link with: "+strings.Join(releases.Supported, " or ")+" (default: the one in go.mod)")
	output := flag.String("o", "", "where to write the server (default: build/atlantis, or build/atlantis-VERSION/atlantis for another release)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "link: unexpected argument", flag.Arg(0))
		os.Exit(2)
	}
	if err := link(*version, *output); err != nil {
		fmt.Fprintln(os.Stderr, "link:", err)
		os.Exit(1)
	}
}

func link(version, output string) error {
	host, err := findHost()
	if err != nil {
		return err
	}
	build := filepath.Join(host.root, "build")
	if version == "" {
		version = host.atlantis
	}
	folder := filepath.Join(build, "atlantis-"+version)
	if output == "" {
		output = filepath.Join(build, "atlantis")
		if version != host.atlantis {
			output = filepath.Join(folder, "atlantis")
		}
	}
	// The go command runs in another folder.
	output, err = filepath.Abs(output)
	if err != nil {
		return err
	}
	release, err := download(version)
	if err != nil {
		return err
	}
	source := filepath.Join(folder, "source")
	if err := copyModule(release.Dir, source, editServer); err != nil {
		return err
	}
	modfile, err := writeModfile(host, release, source, filepath.Join(folder, "link.mod"))
	if err != nil {
		return err
	}
	if err := compile(host, release, modfile, output); err != nil {
		return err
	}
	fmt.Printf("built %s: Atlantis %s with atlock\n", output, version)
	return nil
}
