// Package hook joins a linked Atlantis server with its database: go/cmd/atlantis says how the database is opened, and the copy
// of Atlantis that go/cmd/link edits opens it where Atlantis opens its own.
//
// Who needs it: whoever links a server in another way than `make atlantis` does; a program that opens its own database does not.
//
// It is a package of its own because Atlantis's server must not import a program.
package hook

import (
	"errors"

	"github.com/runatlantis/atlantis/server/core/db"
)

// DBType is the value of Atlantis's LockingDBType that stands for the database of this package.
const DBType = "atlock"

var (
	linked bool
	opener func() (db.Database, error)
)

// Link is called by the edited copy while the program starts: its server knows [DBType].
func Link() { linked = true }

// Linked tells whether Atlantis's server knows [DBType]. In a program that was built with the unmodified module it does not,
// and would run without a database.
func Linked() bool { return linked }

// OpenWith says how the database is opened. It is called once, before the server is made.
func OpenWith(open func() (db.Database, error)) { opener = open }

// Open opens the database. Atlantis's server calls it.
func Open() (db.Database, error) {
	if opener == nil {
		return nil, errors.New("the locking database type " + DBType + " cannot be chosen by --locking-db-type: " +
			"keep boltdb or redis there, and give the settings by --locking-config")
	}
	return opener()
}
