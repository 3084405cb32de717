package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

const (
	configFlag  = "locking-config"
	configUsage = "Path to a YAML file with a block 'locking', the settings of atlock. Without it, locking.yaml in --data-dir is read\n" +
		"      if it is there. Without either, locking is stock Atlantis's."
	// The flag that follows in Atlantis's help.
	nextFlag = "  --locking-db-type="
)

// addFlag adds the one flag that Atlantis does not have. Like Atlantis's own it may also come from the environment
// (ATLANTIS_LOCKING_CONFIG) and from the file of --config.
func addFlag(command *cobra.Command, settings *viper.Viper) {
	command.Flags().String(configFlag, "", strings.Join(strings.Fields(configUsage), " ")+"\n")
	settings.BindPFlag(configFlag, command.Flags().Lookup(configFlag)) //nolint:errcheck // fails only for a nil flag
	command.SetUsageTemplate(withFlag(command.UsageTemplate()))
}

// withFlag puts the flag into Atlantis's usage template, which lists the flags by itself.
func withFlag(template string) string {
	return strings.Replace(template, nextFlag, "  --"+configFlag+"=<value>\n      "+configUsage+"\n\n"+nextFlag, 1)
}
