package atlock

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/bolthost"
)

// openHost opens the BoltDB file. Hybrid mode begins also where that fails, since the file is a copy: the library hears of the
// failure when it reads the file, and says so, or refuses to begin where the file was never read. A file that another process has
// open is an error all the same: that process may be another server on this folder. So is one whose
// locks a migration has moved away, or is moving.
func openHost(config Config, dir string, logger *slog.Logger) (client.Host, error) {
	host, err := bolthost.Open(dir)
	if err == nil {
		return host, nil
	}
	if config.Mode() != ModeHybrid || errors.Is(err, bolthost.ErrBusy) || errors.Is(err, bolthost.ErrMoved) {
		return nil, err
	}
	if !errors.Is(err, bolthost.ErrDamaged) {
		return failedHost{err}, nil
	}
	has, storeErr := config.HasLocalStore()
	if storeErr != nil {
		return nil, storeErr
	}
	if !config.Locking.Enhanced.ReplaceDamagedCopy || !has {
		return failedHost{fmt.Errorf("%w (with locking.enhanced.replace_damaged_copy: true the next start moves it aside and fills a new one)", err)}, nil
	}
	aside, moveErr := bolthost.MoveAside(dir)
	if moveErr != nil {
		return failedHost{errors.Join(err, moveErr)}, nil
	}
	logger.Warn("a damaged BoltDB file was moved aside, and a new one is filled", "moved_to", aside, "error", err)
	if host, err = bolthost.Open(dir); err != nil {
		return failedHost{err}, nil
	}
	return host, nil
}

// failedHost stands for a file that could not be opened.
type failedHost struct{ err error }

func (f failedHost) Call(uint32, []byte) ([]byte, error) { return nil, f.err }
func (f failedHost) Close() error                        { return nil }
