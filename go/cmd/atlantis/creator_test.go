package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/server"
	"github.com/runatlantis/atlantis/server/logging"
	"github.com/spf13/viper"

	"github.com/atlock/atlock/go/hook"
)

func newCreator(t *testing.T) *creator {
	t.Helper()
	return &creator{viper: viper.New(), logger: logging.NewNoopLogger(t).WithHistory()}
}

// startable is enough for Atlantis to make a server.
func startable(t *testing.T) server.UserConfig {
	t.Helper()
	configured := user(t)
	configured.AtlantisURL, configured.GithubHostname = "http://example.com", "github.com"
	configured.GithubUser, configured.GithubToken = "user", "token"
	return configured
}

// Without settings, the server is the one that stock makes.
func TestCreatorWithoutSettings(t *testing.T) {
	user := startable(t)
	creator := newCreator(t)
	made, err := creator.NewServer(user, server.Config{AtlantisVersion: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, isStock := made.(*server.Server); !isStock {
		t.Errorf("got a %T", made)
	}
	if history := creator.logger.GetHistory(); history != "" {
		t.Errorf("logged %s", history)
	}
	if entries, _ := filepath.Glob(filepath.Join(user.DataDir, "atlock*")); entries != nil {
		t.Errorf("left %v", entries)
	}
}

// The settings are gone, what atlock left is not.
func TestCreatorWithoutSettingsOverWhatAtlockLeft(t *testing.T) {
	user := startable(t)
	closed(t, mustOpen(t, user, "strict", sledFile))
	creator := newCreator(t)
	if _, err := creator.NewServer(user, server.Config{AtlantisVersion: "v1"}); err != nil {
		t.Fatal(err)
	}
	if history := creator.logger.GetHistory(); !strings.Contains(history, filepath.Join(user.DataDir, "atlock")+" was left by atlock") {
		t.Errorf("logged %q", history)
	}
}

// Whether atlock left something is not known.
func TestCreatorWithoutSettingsOverWhatCannotBeLookedAt(t *testing.T) {
	user := startable(t)
	circle := filepath.Join(user.DataDir, "atlock")
	if err := os.Symlink(circle, circle); err != nil {
		t.Fatal(err)
	}
	creator := newCreator(t)
	if _, err := creator.NewServer(user, server.Config{AtlantisVersion: "v1"}); err != nil {
		t.Fatal(err)
	}
	if history := creator.logger.GetHistory(); !strings.Contains(history, "Whether that has all locks is not known: the folder "+circle) {
		t.Errorf("logged %q", history)
	}
}

// This test's Atlantis is the unmodified module.
func TestCreatorThatIsNotLinked(t *testing.T) {
	if hook.Linked() {
		t.Fatal("linked")
	}
	creator := newCreator(t)
	creator.viper.Set(configFlag, writeFile(t, filepath.Join(t.TempDir(), "x.yaml"), sledFile))
	_, err := creator.NewServer(user(t), server.Config{})
	if err == nil || !strings.Contains(err.Error(), "build it with make atlantis") {
		t.Errorf("got %v", err)
	}
	creator.viper.Set(configFlag, "none.yaml")
	if _, err := creator.NewServer(user(t), server.Config{}); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v", err)
	}
}
