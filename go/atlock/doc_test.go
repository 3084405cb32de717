package atlock_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server/core/db"

	"github.com/atlock/atlock/go/atlock"
)

// documented reads a package of this module as `go doc` does.
func documented(t *testing.T, folder string) *doc.Package {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	read, err := doc.NewFromFiles(set, files, "github.com/atlock/atlock/go/"+filepath.Base(folder))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// A reader of `go doc` sees every method of Atlantis's database on the type, with a comment of its own.
func TestEveryMethodOfDatabaseIsDocumented(t *testing.T) {
	texts := map[string]string{}
	for _, kind := range documented(t, ".").Types {
		for _, method := range kind.Methods {
			if kind.Name == "Database" && method.Level == 0 { // 0: not of an embedded type
				texts[method.Name] = method.Doc
			}
		}
	}
	var wanted []string
	for _, kind := range []reflect.Type{reflect.TypeFor[db.Database](), reflect.TypeFor[*atlock.Database]()} {
		for i := range kind.NumMethod() {
			wanted = append(wanted, kind.Method(i).Name)
		}
	}
	if len(wanted) < 30 {
		t.Errorf("only %d methods: %v", len(wanted), wanted)
	}
	for _, name := range wanted {
		if !strings.HasPrefix(texts[name], name+" ") {
			t.Errorf("the comment of %s is %q", name, texts[name])
		}
	}
}

// Every exported name of the packages that others may import has a comment of its own, and each package says who needs it.
func TestEveryExportedNameIsDocumented(t *testing.T) {
	looked := 0
	for _, folder := range []string{".", "../client", "../control", "../conformance", "../handover", "../hook", "../metrics", "../web"} {
		read := documented(t, folder)
		if !strings.Contains(read.Doc, "\nWho needs it: ") {
			t.Errorf("package %s does not say who needs it", read.Name)
		}
		wanted := func(name, comment string) {
			looked++
			if strings.TrimSpace(comment) == "" {
				t.Errorf("%s.%s has no comment", read.Name, name)
			}
		}
		functions := func(of string, list []*doc.Func) {
			for _, function := range list {
				if ast.IsExported(function.Name) && function.Level == 0 {
					wanted(of+function.Name, function.Doc)
				}
			}
		}
		functions("", read.Funcs)
		for _, kind := range read.Types {
			if !ast.IsExported(kind.Name) {
				continue
			}
			wanted(kind.Name, kind.Doc+commentOf(kind))
			functions("", kind.Funcs)
			functions(kind.Name+".", kind.Methods)
		}
	}
	if looked < 300 {
		t.Errorf("only %d names", looked)
	}
}

// commentOf is the comment of the group in which a type is declared, beside others.
func commentOf(kind *doc.Type) string {
	if len(kind.Decl.Specs) < 2 {
		return ""
	}
	return kind.Decl.Doc.Text()
}

// What package client tells and takes has its name in package atlock, too, but for what opens and answers there.
func TestClientsNamesAreHereToo(t *testing.T) {
	clients := []string{"Client", "Open", "Option", "WithHost", "Host", "Grant", "Listing", "Unreadable", "Version",
		"Waited", "WaitedSet", "GrantedLock", "WaitTimedOut", "WaitCancelled", "WaitLeft", "WaitEnd", "InRun", "RunRequest", "Stats", "Follow", "Following", "AuditTrail", "OpenAudit"}
	here := names(documented(t, "."))
	compared := 0
	for _, name := range names(documented(t, "../client")) {
		if !slices.Contains(here, name) && !slices.Contains(clients, name) {
			t.Errorf("atlock has no %s", name)
		}
		compared++
	}
	if compared < 50 {
		t.Errorf("only %d names", compared)
	}
}

// names are the exported ones of a package, but for methods.
func names(read *doc.Package) []string {
	var found []string
	values := slices.Concat(read.Consts, read.Vars)
	functions := slices.Clone(read.Funcs)
	for _, kind := range read.Types {
		found = append(found, kind.Name)
		values = slices.Concat(values, kind.Consts, kind.Vars)
		functions = append(functions, kind.Funcs...)
	}
	for _, value := range values {
		found = append(found, value.Names...)
	}
	for _, function := range functions {
		found = append(found, function.Name)
	}
	return slices.DeleteFunc(found, func(name string) bool { return !ast.IsExported(name) })
}
