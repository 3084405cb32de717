package outside

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A consumer is a module of somebody else's, in a folder of its own, with a module cache that begins empty.
type consumer struct {
	folder      string
	environment []string
}

// newConsumer makes a module around one of the programs in testdata.
func newConsumer(t *testing.T, program, proxy string) consumer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", program, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	made := consumer{folder: t.TempDir()}
	if err := os.WriteFile(filepath.Join(made.folder, "main.go"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	// What else is needed comes from this machine's module cache, as far as it is there.
	cache := strings.TrimSpace(run(t, ".", nil, "go", "env", "GOMODCACHE"))
	others := strings.TrimSpace(run(t, ".", nil, "go", "env", "GOPROXY"))
	made.environment = []string{
		"GOMODCACHE=" + t.TempDir(), "GOFLAGS=-modcacherw -buildvcs=false", "GOSUMDB=off", "GONOPROXY=none", "GOWORK=off",
		"GOPROXY=" + proxy + ",file://" + filepath.Join(cache, "cache", "download") + "," + others,
	}
	return made
}

func (c consumer) run(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	return run(t, c.folder, c.environment, name, arguments...)
}

// locks builds the program in some way and runs it: it takes a lock.
func (c consumer) locks(t *testing.T, environment []string, flags ...string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	run(t, c.folder, append(c.environment, environment...), "go", append([]string{"build", "-o", program}, flags...)...)
	if out := run(t, c.folder, nil, program, t.TempDir()); out != "acquired true\n" {
		t.Errorf("%q: the program says %q", flags, out)
	}
}

// follow types what docs/go.md says, and runs what that builds.
func (c consumer) follow(t *testing.T, made release) {
	t.Helper()
	for _, command := range typed(t, "From your own module") {
		c.run(t, "bash", "-euc", command)
	}
	if got := strings.TrimSpace(c.run(t, "go", "list", "-m", "-f", "{{.Version}}", modulePath)); got != made.version {
		t.Errorf("docs/go.md's commands get %s, and %s was released", got, made.version)
	}
	if out := run(t, c.folder, nil, "./locks", t.TempDir()); out != "acquired true\n" {
		t.Errorf("the program says %q", out)
	}
}

// refused tells what the build says that cannot be: the package that says it, and one sentence.
func (c consumer) refused(t *testing.T, sentence string, environment []string, arguments ...string) {
	t.Helper()
	out, err := try(t, c.folder, append(c.environment, environment...), "go", arguments...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err == nil || len(lines) != 2 || !strings.HasPrefix(lines[0], "# "+modulePath+"/internal/archive") ||
		!strings.HasSuffix(lines[1], ": undefined: "+sentence) {
		t.Errorf("go %q, %q: %v\n%s", arguments, environment, err, out)
	}
}

// typed are the commands that docs/go.md gives under a heading.
func typed(t *testing.T, heading string) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository(t), "docs", "go.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/go.md has no %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for line := range strings.Lines(section) {
		if command, is := strings.CutPrefix(line, "    "); is {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if len(commands) == 0 {
		t.Fatalf("docs/go.md gives no commands under %q", heading)
	}
	return commands
}

const (
	needsCgo     = "atlock_needs_cgo__set_CGO_ENABLED_1_and_have_a_C_compiler_for_the_platform"
	noArchive    = "atlock_brings_no_archive_for_this_platform__build_one_and_use_the_tag_atlock_external"
	needsMakeLib = "libatlock_a_is_missing__run_make_lib_in_the_checkout_of_atlock"
)

func TestAReleaseIsADependency(t *testing.T) {
	made := makeRelease(t)
	made.checkCommit(t)
	proxy := made.proxy(t)

	t.Run("client", func(t *testing.T) {
		program := newConsumer(t, "client", proxy)
		program.follow(t, made)
		program.locks(t, nil, "-race")
		program.locks(t, nil, "-trimpath")
		program.refused(t, needsCgo, []string{"CGO_ENABLED=0"}, "build", ".")
		program.refused(t, needsCgo, []string{"GOARCH=arm64", "CGO_ENABLED="}, "build", ".")
		program.refused(t, noArchive, []string{"GOARCH=riscv64", "CGO_ENABLED=1"}, "build", modulePath+"/internal/archive")
		made.checkSums(t, program)

		program.run(t, "go", "mod", "vendor")
		program.locks(t, nil, "-mod=vendor")
		// Nothing but the vendor folder is looked at.
		program.locks(t, []string{"GOMODCACHE=" + t.TempDir(), "GOPROXY=off"}, "-mod=vendor", "-race", "-trimpath")
		if found, err := filepath.Glob(filepath.Join(program.folder, "vendor", "github.com", "runatlantis")); err != nil || found != nil {
			t.Errorf("package client brings Atlantis along: %v, %v", found, err)
		}
		program.ownArchive(t, made)
	})

	t.Run("database", func(t *testing.T) {
		program := newConsumer(t, "database", proxy)
		// With -trimpath, a package of another module cache is the same, and is not built anew.
		program.environment = append(program.environment, "GOFLAGS=-trimpath -modcacherw -buildvcs=false")
		program.follow(t, made)
		program.run(t, "go", "mod", "vendor")
		program.locks(t, []string{"GOPROXY=off"}, "-mod=vendor")
		modules, err := os.ReadFile(filepath.Join(program.folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, developers := range []string{"chromedp", "porcupine", "goldmark"} {
			if strings.Contains(string(modules), developers) {
				t.Errorf("who depends on the module gets %s, too", developers)
			}
		}
	})
	made.checkScripts(t) // the last: it takes the tag away
}

// checkSums checks the archive that was fetched by the checksums beside it.
func (r release) checkSums(t *testing.T, c consumer) {
	t.Helper()
	folder := filepath.Join(strings.TrimSpace(c.run(t, "go", "list", "-m", "-f", "{{.Dir}}", modulePath)), "internal", "archive")
	sums, err := os.ReadFile(filepath.Join(folder, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(filepath.Join(folder, r.triple, "libatlock.a"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive)
	if line := hex.EncodeToString(sum[:]) + "  " + r.triple + "/libatlock.a\n"; string(sums) != line {
		t.Errorf("the checksums are %q, and not %q", sums, line)
	}
}

// ownArchive builds with an archive of one's own, while the module's cannot be read as one.
func (c consumer) ownArchive(t *testing.T, made release) {
	t.Helper()
	theirs := filepath.Join(c.folder, "vendor", filepath.FromSlash(modulePath), "internal", "archive", made.triple, "libatlock.a")
	own := filepath.Join(t.TempDir(), "libown.a")
	if err := os.Rename(theirs, own); err != nil {
		t.Fatal(err)
	}
	libraries := " -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
	c.locks(t, []string{"CGO_LDFLAGS=" + own + libraries}, "-mod=vendor", "-tags=atlock_external")
}

// A checkout in place of the release, by replace: it needs its archive, and says so.
func TestACheckoutIsADependency(t *testing.T) {
	folder := clone(t)
	program := newConsumer(t, "client", "off")
	program.environment = append(program.environment, "GOPROXY=file://"+strings.TrimSpace(run(t, ".", nil, "go", "env", "GOMODCACHE"))+
		"/cache/download,"+strings.TrimSpace(run(t, ".", nil, "go", "env", "GOPROXY")))
	program.run(t, "go", "mod", "init", "example.com/locks")
	program.run(t, "go", "mod", "edit", "-require="+modulePath+"@v0.0.0", "-replace="+modulePath+"="+filepath.Join(folder, "go"))
	program.environment = append(program.environment, "GOFLAGS=-mod=mod -modcacherw -buildvcs=false")
	program.refused(t, needsMakeLib, nil, "build", ".")
	built := filepath.Join(repository(t), "go", "internal", "archive", triple(t), "libatlock.a")
	run(t, folder, nil, "scripts/go-archive", built)
	program.locks(t, nil)
}
