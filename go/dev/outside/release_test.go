package outside

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

const modulePath = "github.com/atlock/atlock/go"

// A release is what scripts/release-go made of the files as they are in this folder, in a clone.
type release struct {
	clone   string
	version string // as Go writes it: v0.1.0
	triple  string // the platform that it has an archive for: this one
}

// repository is the folder of the repository that the tests are in.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// run runs a program and returns all that it wrote. It must succeed.
func run(t *testing.T, folder string, environment []string, name string, arguments ...string) string {
	t.Helper()
	out, err := try(t, folder, environment, name, arguments...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, out)
	}
	return out
}

func try(t *testing.T, folder string, environment []string, name string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), environment...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// author is who commits in the clone.
var author = []string{"GIT_AUTHOR_NAME=gopher", "GIT_AUTHOR_EMAIL=gopher@example.com",
	"GIT_COMMITTER_NAME=gopher", "GIT_COMMITTER_EMAIL=gopher@example.com"}

// clone is a clone of the repository with a commit of the files as they are in its folder.
func clone(t *testing.T) string {
	t.Helper()
	root, folder := repository(t), filepath.Join(t.TempDir(), "atlock")
	run(t, root, nil, "git", "clone", "--quiet", "--shared", "--no-tags", root, folder)
	run(t, folder, nil, "git", "rm", "-r", "--quiet", ".")
	for _, name := range strings.Split(run(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(folder, name)
		info, err := os.Lstat(from)
		if name == "" || err != nil || !info.Mode().IsRegular() { // err: removed, and not committed yet
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	run(t, folder, nil, "git", "add", "--all")
	run(t, folder, author, "git", "commit", "--quiet", "--allow-empty", "--no-verify", "--message=The files as they are")
	return folder
}

// makeRelease releases for this machine's platform, with the archive that `make lib` built: the clone's script for a build takes that.
func makeRelease(t *testing.T) release {
	t.Helper()
	made := release{clone: clone(t), triple: triple(t)}
	built := filepath.Join(repository(t), "go", "internal", "archive", made.triple, "libatlock.a")
	if _, err := os.Stat(built); err != nil {
		t.Fatalf("there is no archive of this machine's: run make lib (%v)", err)
	}
	made.build(t, fmt.Sprintf("cp -- %q \"$2/libatlock.a\"", built))
	out := run(t, made.clone, author, "scripts/release-go", "--only", made.triple)
	tagged := regexp.MustCompile(`(?m)^tagged go/(v[0-9]+\.[0-9]+\.[0-9]+): `).FindStringSubmatch(out)
	if tagged == nil {
		t.Fatalf("scripts/release-go names no tag: %s", out)
	}
	made.version = tagged[1]
	return made
}

// build gives the clone another script for a build, in a commit.
func (r release) build(t *testing.T, command string) {
	t.Helper()
	script := "#!/usr/bin/env bash\nset -euo pipefail\nmkdir -p -- \"$2\"\n" + command + "\n"
	if err := os.WriteFile(filepath.Join(r.clone, "scripts", "build-archive"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, r.clone, nil, "git", "add", "scripts/build-archive")
	run(t, r.clone, author, "git", "commit", "--quiet", "--no-verify", "--message=Build otherwise")
}

// What is released is what a fresh build makes, or it is found out; and nothing is released twice, or in part.
func (r release) checkScripts(t *testing.T) {
	t.Helper()
	tag := "go/" + r.version
	refused := func(wanted, name string, arguments ...string) {
		t.Helper()
		if out, err := try(t, r.clone, author, name, arguments...); err == nil || !strings.Contains(out, wanted) {
			t.Errorf("%s %q: %v, %s", name, arguments, err, out)
		}
	}
	run(t, r.clone, nil, "scripts/verify-release-go", tag)
	refused("there is a tag "+tag+" already", "scripts/release-go", "--only", r.triple)

	run(t, r.clone, nil, "git", "tag", "--delete", tag)
	r.build(t, "date +%N > \"$2/libatlock.a\"")
	run(t, r.clone, author, "scripts/release-go", "--only", r.triple)
	refused("has another "+r.triple+"/libatlock.a than a fresh build", "scripts/verify-release-go", tag)

	run(t, r.clone, nil, "git", "tag", "--delete", tag)
	refused("libatlock.a is missing", "scripts/release-go", "--archives", t.TempDir())
	if err := os.WriteFile(filepath.Join(r.clone, "README.md"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("there are changes that no commit has", "scripts/release-go", "--only", r.triple)
	if trees := strings.Count(run(t, r.clone, nil, "git", "worktree", "list"), "\n"); trees != 1 {
		t.Errorf("%d worktrees are left", trees)
	}
}

// triple is Rust's name for this machine's platform.
func triple(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(run(t, ".", nil, "rustc", "--version", "--verbose")) {
		if name, found := strings.CutPrefix(line, "host: "); found {
			return strings.TrimSpace(name)
		}
	}
	t.Fatal("rustc names no host")
	return ""
}

// Only the tag reaches the archives, and all else is as it was.
func (r release) checkCommit(t *testing.T) {
	t.Helper()
	tag := "go/" + r.version
	if got := run(t, r.clone, nil, "git", "status", "--porcelain"); got != "" {
		t.Errorf("the folder is not as it was: %s", got)
	}
	head := run(t, r.clone, nil, "git", "rev-parse", "HEAD")
	if parent := run(t, r.clone, nil, "git", "rev-parse", tag+"~"); parent != head {
		t.Errorf("the parent of the release is %s, and HEAD is %s", parent, head)
	}
	if branches := run(t, r.clone, nil, "git", "branch", "--all", "--contains", tag); branches != "" {
		t.Errorf("branches have the release: %s", branches)
	}
	if trees := strings.Count(run(t, r.clone, nil, "git", "worktree", "list"), "\n"); trees != 1 {
		t.Errorf("%d worktrees are left", trees)
	}
	added := strings.Fields(run(t, r.clone, nil, "git", "diff", "--name-only", "HEAD", tag))
	folder := "go/internal/archive/" + r.triple
	wanted := []string{"go/internal/archive/SHA256SUMS", folder + "/digest_generated.go", folder + "/libatlock.a", "go/internal/capi/atlock.h"}
	slices.Sort(wanted)
	slices.Sort(added)
	if !slices.Equal(added, wanted) {
		t.Errorf("the release adds %q", added)
	}
	header, err := os.ReadFile(filepath.Join(repository(t), "include", "atlock.h"))
	if err != nil {
		t.Fatal(err)
	}
	if released := run(t, r.clone, nil, "git", "show", tag+":go/internal/capi/atlock.h"); released != string(header) {
		t.Error("the header of the release is another one")
	}
}

// proxy makes the folder from which a module proxy would serve the release, and returns its URL.
func (r release) proxy(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	versions := filepath.Join(folder, filepath.FromSlash(modulePath), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := modzip.CreateFromVCS(&packed, module.Version{Path: modulePath, Version: r.version}, r.clone, "go/"+r.version, "go"); err != nil {
		t.Fatal(err)
	}
	checkContents(t, packed.Bytes())
	goMod := run(t, r.clone, nil, "git", "show", "go/"+r.version+":go/go.mod")
	for name, text := range map[string][]byte{
		"list":              []byte(r.version + "\n"),
		r.version + ".info": []byte(`{"Version":"` + r.version + `"}`),
		r.version + ".mod":  []byte(goMod),
		r.version + ".zip":  packed.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + folder
}

// checkContents checks that nothing of the developers' module is in the library's.
func checkContents(t *testing.T, packed []byte) {
	t.Helper()
	read, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range read.File {
		if strings.Contains(file.Name, "/dev/") {
			t.Errorf("the module has %s", file.Name)
		}
	}
}
