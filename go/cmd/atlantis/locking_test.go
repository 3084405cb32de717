package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/core/boltdb"

	"github.com/atlock/atlock/go/atlock"
)

// A file whose locks were moved away is no store of a server without settings, and the error says where they are.
func TestAServerWithoutSettingsSaysWhereTheLocksOfItsFileAre(t *testing.T) {
	user := startable(t)
	stock, err := boltdb.New(user.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := stock.Close(); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	args := []string{
		"migrate", "--from", "boltdb:" + filepath.Join(user.DataDir, "atlantis.db"), "--to", "sled:" + filepath.Join(t.TempDir(), "locks"),
		"--work", t.TempDir(), "--execute",
	}
	if status := atlock.MigrationCommand(args, &told, &told); status != 0 {
		t.Fatalf("%d: %s", status, &told)
	}
	_, err = newCreator(t).NewServer(user, server.Config{AtlantisVersion: "v1"})
	if err == nil || !strings.Contains(err.Error(), "its locks were moved to sled:") {
		t.Errorf("%v", err)
	}
}

// Behind the command, all words are the library's.
func TestTheCommandTakesItsFlagsItself(t *testing.T) {
	command := lockingCommand()
	if !command.DisableFlagParsing || command.Use != "locking" {
		t.Errorf("%+v", command)
	}
}
