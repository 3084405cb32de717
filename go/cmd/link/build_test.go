package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
)

const hostModule = `module example.org/host

go 1.26.5

require (
	example.org/direct v1.0.0
	github.com/runatlantis/atlantis v0.47.1
)

require example.org/indirect v1.0.0 // indirect
`

func hostFor(t *testing.T) host {
	t.Helper()
	file, err := modfile.Parse("go.mod", []byte(hostModule), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"go.sum": "b\na\n"})
	return host{dir: dir, root: filepath.Dir(dir), module: file, atlantis: "v0.47.1"}
}

func TestWriteModfile(t *testing.T) {
	host, source := hostFor(t), t.TempDir()
	writeFiles(t, source, map[string]string{"go.sum": "c\nb\n"})
	path := filepath.Join(t.TempDir(), "link.mod")
	if _, err := writeModfile(host, release{Version: "v0.46.0"}, source, path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written, err := modfile.Parse(path, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, require := range written.Require {
		versions[require.Mod.Path] = require.Mod.Version
	}
	if len(versions) != 2 || versions["example.org/direct"] != "v1.0.0" || versions[atlantisPath] != "v0.46.0" {
		t.Errorf("requires %v", versions)
	}
	if len(written.Replace) != 1 || written.Replace[0].Old.Path != atlantisPath || filepath.Join(host.dir, written.Replace[0].New.Path) != source {
		t.Errorf("replaces %+v", written.Replace)
	}
	if strings.Contains(string(text), source) {
		t.Errorf("the program will name a folder of this machine:\n%s", text)
	}
	sums, err := os.ReadFile(strings.TrimSuffix(path, ".mod") + ".sum")
	if err != nil || string(sums) != "a\nb\nc\n" {
		t.Errorf("sums %q, %v", sums, err)
	}
	if len(host.module.Require) != 3 {
		t.Error("the host's own module was changed")
	}

	// What the go command added stays while nothing else changes.
	writeFiles(t, filepath.Dir(path), map[string]string{"link.mod": string(text) + "// added\n", "link.sum": "added\n"})
	if _, err := writeModfile(host, release{Version: "v0.46.0"}, source, path); err != nil {
		t.Fatal(err)
	}
	if kept, _ := os.ReadFile(path); !strings.HasSuffix(string(kept), "// added\n") {
		t.Error("an unchanged modfile was written anew")
	}
	if _, err := writeModfile(host, release{Version: "v0.47.1"}, source, path); err != nil {
		t.Fatal(err)
	}
	if anew, _ := os.ReadFile(path); !strings.Contains(string(anew), atlantisPath+" v0.47.1") || strings.Contains(string(anew), "// added") {
		t.Errorf("another release: got %s", anew)
	}
}

func TestLinkerFlags(t *testing.T) {
	r := release{Version: "v0.47.1", Time: time.Date(2026, 8, 20, 18, 20, 16, 0, time.UTC)}
	if got, want := linkerFlags(r), "-s -w -extldflags=-Wl,--gc-sections,-z,relro,-z,now -X main.version=v0.47.1 -X main.date=2026-08-20T18:20:16Z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Origin.Hash = "8dd22b4"
	if got := linkerFlags(r); !strings.Contains(got, "-X main.commit=8dd22b4 ") {
		t.Errorf("got %s", got)
	}
}

func TestIsStatic(t *testing.T) {
	for flags, want := range map[string]bool{"": false, "-static": true, "-O2 -static -s": true, "-static-libgcc": false, "-L/x/-static": false} {
		if isStatic(flags) != want {
			t.Errorf("%q: want %t", flags, want)
		}
	}
}
