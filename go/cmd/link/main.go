// Link builds the real Atlantis server with atlock inside.
//
//	go run ./cmd/link [-version release] [-o file | -flags]
//
// It runs in the folder of the Go module, and needs libatlock.a (make lib). Atlantis has no hook for a database of others, so
// this copies what the server needs of the released module into build/atlantis-VERSION/, which git ignores, adds one case to the
// copy, lays the files into it that an older release lacks, and builds go/cmd/atlantis with it. Without -version it takes the release in
// go.mod, and writes build/atlantis. With -flags it builds nothing, and prints the flags with which `go test` does the same.
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
	flags := flag.Bool("flags", false, "print the flags for the go command instead of building")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "link: unexpected argument", flag.Arg(0))
		os.Exit(2)
	}
	if err := link(*version, *output, *flags); err != nil {
		fmt.Fprintln(os.Stderr, "link:", err)
		os.Exit(1)
	}
}

func link(version, output string, onlyFlags bool) error {
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
	if !onlyFlags {
		fmt.Fprintf(os.Stderr, "link: Atlantis %s is fetched, unless it is here\n", version)
	}
	release, err := download(version)
	if err != nil {
		return err
	}
	source := filepath.Join(folder, "source")
	added, err := addedTo(version)
	if err != nil {
		return err
	}
	if err := copyModule(release.Dir, source, editServer, added); err != nil {
		return err
	}
	modfile, err := writeModfile(host, release, source, filepath.Join(folder, "link.mod"))
	if err != nil {
		return err
	}
	if onlyFlags {
		fmt.Println(strings.Join(goFlags(modfile, version), " "))
		return nil
	}
	if !releases.IsSupported(version) {
		fmt.Fprintf(os.Stderr, "link: Atlantis %s is untested with atlock: the releases that were tried are %s\n", version,
			strings.Join(releases.Supported, ", "))
	}
	if err := compile(host, release, modfile, output); err != nil {
		return err
	}
	fmt.Printf("built %s: Atlantis %s with atlock\n", output, version)
	return nil
}
