package atlock

import "log/slog"

// OpenOverBoltDB opens strict mode on a BoltDB file through the library, where [Open] calls Atlantis's code directly: what hybrid
// mode's host store does is tested by itself then.
func OpenOverBoltDB(dir string) (*Database, error) {
	return openOverBoltDB(Config{}, dir, slog.Default())
}
