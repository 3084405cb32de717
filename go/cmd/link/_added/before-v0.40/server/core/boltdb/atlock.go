// Package boltdb has Atlantis's BoltDB file under the name that releases from v0.37 have for it.
package boltdb

import "github.com/runatlantis/atlantis/server/core/db"

// BoltDB is the file.
type BoltDB = db.BoltDB

// New opens the file in this folder.
func New(dir string) (*BoltDB, error) { return db.New(dir) }
