package main

import (
	"errors"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/atlock/atlock/go/releases"
)

// A server like Atlantis's, with what the edit looks at; the comments must stay where they are.
const shape = `// Package server is made up.
package server

import (
	"strings"

	"github.com/runatlantis/atlantis/server/core/boltdb"
	"github.com/runatlantis/atlantis/server/core/db"
	"github.com/runatlantis/atlantis/server/core/redis"
)

// NewServer makes a server.
func NewServer(userConfig UserConfig, config Config) (*Server, error) {
	var database db.Database
	var err error

	switch dbtype := userConfig.LockingDBType; dbtype {
	case "redis":
		// Another switch, inside.
		switch {
		case len(userConfig.Addresses) > 0:
		}
		database, err = redis.New(strings.TrimSpace(userConfig.RedisHost))
		if err != nil {
			return nil, err
		}
	case "boltdb":
		logger.Info("Utilizing BoltDB")
		database, err = boltdb.New(userConfig.DataDir) // the file
		if err != nil {
			return nil, err
		}
	}
	return &Server{database: database}, nil
}
`

const (
	imported = `; import atlockhook "github.com/atlock/atlock/go/hook"`
	added    = " case atlockhook.DBType: database, err = atlockhook.Open(); if err != nil { return nil, err }"
)

func TestEditServer(t *testing.T) {
	edited, err := editServer("server", map[string][]byte{"server.go": []byte(shape), "other.go": []byte("package server\n")})
	if err != nil {
		t.Fatal(err)
	}
	text := string(edited["server.go"])
	want := strings.Replace(shape, "redis\"\n)", "redis\"\n)"+imported, 1)
	want = strings.Replace(want, "LockingDBType; dbtype {", "LockingDBType; dbtype {"+added, 1)
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if len(edited) != 2 || !strings.Contains(string(edited["atlock.go"]), "func init() { atlockhook.Link() }") {
		t.Errorf("the file that is added: %s", edited["atlock.go"])
	}
	for name, source := range edited {
		if _, err := parser.ParseFile(token.NewFileSet(), name, source, 0); err != nil {
			t.Error(err)
		}
	}
}

// Names are learned, not known.
func TestEditServerLearnsTheNames(t *testing.T) {
	renamed := strings.NewReplacer(
		"database", "store", "err ", "failure ", ", err", ", failure", "\"github.com/runatlantis/atlantis/server/core/boltdb\"",
		"bolt \"github.com/runatlantis/atlantis/server/core/boltdb\"", "boltdb.New", "bolt.New",
		"switch dbtype := userConfig.LockingDBType; dbtype {", "switch settings.LockingDBType {", "var err error", "var failure error").Replace(shape)
	edited, err := editServer("server", map[string][]byte{"start.go": []byte(renamed)})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.NewReplacer("database", "store", "err", "failure").Replace(added); !strings.Contains(string(edited["start.go"]), want) {
		t.Errorf("%q is missing in\n%s", want, edited["start.go"])
	}
}

func TestEditServerRefusesAnotherShape(t *testing.T) {
	const call = "database, err = boltdb.New(userConfig.DataDir) // the file"
	second := "\tswitch userConfig.LockingDBType {\n\t}\n\treturn &Server"
	for name, c := range map[string]struct{ old, new, want string }{
		"no NewServer":         {"func NewServer", "func MakeServer", "server: expected a function NewServer, found none"},
		"a method NewServer":   {"func NewServer", "func (f factory) NewServer", "server: expected a function NewServer, found none"},
		"two NewServer":        {"// NewServer makes", "func NewServer() {}\n\n// NewServer makes", "server: expected one function NewServer, found several, in server.go, server.go"},
		"one result":           {"(*Server, error)", "*Server", "server/server.go:13:1: expected NewServer to return a server and an error"},
		"no switch":            {"userConfig.LockingDBType", "userConfig.Database", "server/server.go:13:1: expected one switch on LockingDBType in NewServer, found none"},
		"two switches":         {"\treturn &Server", second, "server/server.go:34:2: expected one switch on LockingDBType in NewServer, found 2"},
		"no boltdb":            {`case "boltdb"`, `case "bolt"`, `server/server.go:17:2: expected a case "boltdb", found none`},
		"a case of ours":       {`case "boltdb"`, `case "boltdb", "atlock"`, `expected no case "atlock", found one`},
		"a declaration":        {call, "database, err := boltdb.New(userConfig.DataDir)", "server/server.go:29:3: expected in case \"boltdb\" the assignment"},
		"a field":              {call, "server.database, err = boltdb.New(userConfig.DataDir)", "found another form"},
		"an ignored error":     {call, "database, _ = boltdb.New(userConfig.DataDir)", "found another form"},
		"one value":            {call, "database = boltdb.New(userConfig.DataDir)", "found another form"},
		"another constructor":  {call, "database, err = boltdb.Open(userConfig.DataDir)", "server/server.go:27:2: expected in case \"boltdb\" the assignment"},
		"another package":      {"server/core/boltdb\"", "server/core/bbolt\"", "found no such call"},
		"something in between": {call, call + "\n\t\tcount++", "found another form"},
		"a wrapped return":     {"case \"boltdb\":", "case \"boltdb\":\n\t\tdatabase, err = boltdb.New(\"\")\n\t\tif err != nil {\n\t\t\tpanic(err)\n\t\t}", "found another form"},
		"another type":         {"var database db.Database", "var database locking.Store", "server/server.go:14:6: expected in NewServer the declaration \"var database db.Database\", or \"var database locking.Backend\", found another type"},
		"another interface":    {"var database db.Database", "var database db.Store", "found another type"},
		"another db package":   {"server/core/db\"", "server/db\"", "found another type"},
		"declared elsewhere":   {"\tvar database db.Database\n", "", "expected in NewServer the declaration \"var database db.Database\", or \"var database locking.Backend\", found none"},
		"our name taken":       {"var err error", "var err, atlockhook error", "expected nothing named atlockhook, found one"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(shape, c.old, c.new, 1)
			if changed == shape {
				t.Fatal("the case changes nothing")
			}
			edited, err := editServer("server", map[string][]byte{"server.go": []byte(changed)})
			var shapeErr *shapeError
			if !errors.As(err, &shapeErr) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "adapt go/cmd/link/edit.go") {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if edited != nil {
				t.Errorf("something was edited: %v", edited)
			}
		})
	}
}

func TestEditServerWantsGo(t *testing.T) {
	if _, err := editServer("server", map[string][]byte{"server.go": []byte("package")}); err == nil {
		t.Error("no error")
	}
	_, err := editServer("server", map[string][]byte{"server.go": []byte(shape), "atlock.go": []byte("package server\n")})
	if err == nil || !strings.Contains(err.Error(), "server/atlock.go: expected no such file") {
		t.Errorf("a file that would be overwritten: %v", err)
	}
}

// The releases that are supported have the shape: what make atlantis needs.
func TestEditServerOfTheReleases(t *testing.T) {
	for _, version := range releases.Supported {
		t.Run(version, func(t *testing.T) {
			release, err := download(version)
			if err != nil {
				t.Fatal(err)
			}
			added, err := addedTo(version)
			if err != nil {
				t.Fatal(err)
			}
			if err := copyModule(release.Dir, t.TempDir(), editServer, added); err != nil {
				t.Fatal(err)
			}
			if release.Time.IsZero() || release.Version != version {
				t.Errorf("got %+v", release)
			}
		})
	}
}
