package atlock

import (
	"fmt"
	"io"
	"os"

	"github.com/atlock/atlock/go/internal/bolthost"
	"github.com/atlock/atlock/go/internal/capi"
	"github.com/atlock/atlock/go/internal/release"
)

// MigrationCommand runs `migrate`, `rollback` or `restore` of the command `atlock`, with Atlantis's BoltDB file as a store beside those that
// the library has: args are the words behind the program's name. It writes what the command tells, and returns the exit status: 0 done, 1
// not, 2 wrong usage. A progress bar is drawn on the process's stderr where that is a terminal.
//
// It takes as long as it takes. To interrupt it, kill the process: the same command goes on.
func MigrationCommand(args []string, stdout, stderr io.Writer) int {
	const variable = "ATLANTIS_LOCKING_KEY_FORMAT"
	if _, set := os.LookupEnv(variable); !set && release.KeyFormat != KeysCurrent {
		// The command reads settings files itself, which need not say what this release of Atlantis does.
		if err := os.Setenv(variable, release.KeyFormat); err != nil {
			fmt.Fprintln(stderr, "atlock:", err)
			return 1
		}
		defer func() { _ = os.Unsetenv(variable) }() // a server that migrates goes on, and the variable would be a setting of its own
	}
	status, out, remarks, err := capi.MigrationCommand(args, func(path string, change bool) (capi.Host, error) {
		return bolthost.OpenFile(path, change)
	})
	if err != nil {
		fmt.Fprintln(stderr, "atlock:", err)
		return 1
	}
	defer out.Free()
	defer remarks.Free()
	if _, err := stdout.Write(out.Bytes()); err != nil {
		fmt.Fprintln(stderr, "atlock: the command was carried out, but its output cannot be written:", err)
		status = max(status, 1)
	}
	if _, err := stderr.Write(remarks.Bytes()); err != nil {
		return max(status, 1)
	}
	return status
}
