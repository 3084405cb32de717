package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

// command is the command `server`, whose creator does nothing but tell what it would read.
func command(t *testing.T) (*cobra.Command, *viper.Viper) {
	t.Helper()
	settings := viper.New()
	made := (&cmd.ServerCmd{Viper: settings, SilenceOutput: true}).Init()
	addFlag(made, settings)
	return made, settings
}

// The help is stock's, and the flag at its place.
func TestHelp(t *testing.T) {
	stock := (&cmd.ServerCmd{Viper: viper.New()}).Init().UsageString()
	made, _ := command(t)
	help := made.UsageString()
	before, after, found := strings.Cut(help, "  --locking-config=<value>\n      "+configUsage+"\n\n")
	if !found || before+after != stock {
		t.Errorf("got\n%s", help)
	}
	if !strings.HasPrefix(after, "  --locking-db-type=") {
		t.Error("the flag is not at its place")
	}
	for line := range strings.Lines(configUsage) {
		if len(strings.TrimSpace(line)) > 130 {
			t.Errorf("a long line: %s", line)
		}
	}
}

func TestWhereTheFlagComesFrom(t *testing.T) {
	made, settings := command(t)
	if got := settings.GetString(configFlag); got != "" {
		t.Errorf("without: got %q", got)
	}
	file := writeFile(t, filepath.Join(t.TempDir(), "atlantis.yaml"), "locking-config: from-file\nrepo-allowlist: x\n")
	settings.SetConfigFile(file)
	if err := settings.ReadInConfig(); err != nil {
		t.Fatal(err)
	}
	if got := settings.GetString(configFlag); got != "from-file" {
		t.Errorf("in the file of --config: got %q", got)
	}
	t.Setenv("ATLANTIS_LOCKING_CONFIG", "from-environment")
	if got := settings.GetString(configFlag); got != "from-environment" {
		t.Errorf("in the environment: got %q", got)
	}
	if err := made.ParseFlags([]string{"--locking-config", "from-flag"}); err != nil {
		t.Fatal(err)
	}
	if got := settings.GetString(configFlag); got != "from-flag" {
		t.Errorf("as a flag: got %q", got)
	}
}
