// Package faketerraform is a stand-in for the program terraform, so that a real Atlantis plans and applies without one, and
// without a cloud.
package faketerraform

import (
	_ "embed"
	"os"
	"path/filepath"
)

//go:embed terraform.sh
var script []byte

// Install puts a program named terraform into the folder, which the caller puts first on PATH.
func Install(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	// A rename, so that a server that is running it meanwhile finds the old one or the new one whole.
	made := filepath.Join(folder, "terraform.new")
	if err := os.WriteFile(made, script, 0o755); err != nil { // #nosec G306 -- a program
		return err
	}
	return os.Rename(made, filepath.Join(folder, "terraform"))
}
