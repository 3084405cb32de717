package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/atlock/atlock/go/atlock"
)

// lockingCommand is the one command that Atlantis does not have: it moves all locks from one store to another while no server runs. What may
// be typed behind it the library says, which has the same commands in the program `atlock`, but for the BoltDB file.
func lockingCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "locking",
		Short:              "Moves all locks from one store to another while no server runs, and back (atlock)",
		DisableFlagParsing: true,
		SilenceErrors:      true,
		SilenceUsage:       true,
		Run: func(_ *cobra.Command, args []string) {
			os.Exit(atlock.MigrationCommand(args, os.Stdout, os.Stderr))
		},
	}
}
