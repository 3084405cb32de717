// Atlantis is the real Atlantis server with atlock inside: the same commands and one more, the same flags and behaviour, and atlock's locking where
// its settings ask for it. `make atlantis` builds it; built with the unmodified module, it is stock Atlantis and refuses those
// settings.
package main

import (
	"fmt"
	"os"

	"github.com/runatlantis/atlantis/cmd"
	"github.com/runatlantis/atlantis/server/logging"
	"github.com/spf13/viper"
)

// Of the Atlantis release; go/cmd/link fills them in.
var (
	version = "dev"
	commit  = "none"
	date    = "unknown"
)

func main() {
	logger, err := logging.NewStructuredLogger()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the logger cannot be made:", err)
		os.Exit(1)
	}
	logger.Debug("atlantis %s, commit %s, built at %s\n", version, commit, date)
	text := fmt.Sprintf("%s (commit: %.7s) (build date: %s)", version, commit, date)

	settings := viper.New()
	server := &cmd.ServerCmd{
		ServerCreator:   &creator{viper: settings, logger: logger},
		Viper:           settings,
		AtlantisVersion: text,
		Logger:          logger,
	}
	command := server.Init()
	addFlag(command, settings)
	cmd.RootCmd.AddCommand(command, lockingCommand(), (&cmd.VersionCmd{AtlantisVersion: text}).Init(), (&cmd.TestdriveCmd{}).Init())
	cmd.Execute()
}
