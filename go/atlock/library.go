package atlock

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/runatlantis/atlantis/server/events/models"

	"github.com/atlock/atlock/go/client"
)

// library is a Database over the atlock library. Values are written with encoding/json, as stock Atlantis writes them, byte for byte,
// and errors have the beginning that stock's have.
type library struct {
	*client.Client // Ping, Status, Health, Metrics and LockInfo are as there
	logger         *slog.Logger
	unreadable     *atomic.Pointer[string]
	memo           *memo
	watch          *watch // nil without a shadow
	audit          *client.AuditTrail
}

func newLibrary(config Config, opened *client.Client, audit *client.AuditTrail, logger *slog.Logger) *library {
	l := &library{Client: opened, logger: logger, unreadable: new(atomic.Pointer[string]), memo: new(memo), audit: audit}
	if shadow := config.Locking.Shadow; shadow.IsOn() {
		l.watch = newWatch()
		status := func() *ShadowStatus {
			status, _ := opened.Status()
			return status.Shadow
		}
		l.watch.run(func(stop <-chan struct{}) { logDifferences(status, shadow.Sample, logger, stop) })
	}
	return l
}

// Close closes the stores.
func (l *library) Close() error {
	l.watch.end()
	l.audit.Close()
	return l.Client.Close()
}

func (l *library) as(actor Actor) inner {
	if actor.IsZero() {
		return l
	}
	acting := *l
	acting.Client = l.Client.As(actor)
	return &acting
}

func (l *library) record(entry AuditEntry) error { return l.audit.Record(entry) }

// target names a lock in the library's JSON.
type target struct {
	Project   models.Project
	Workspace string
}

// transactionFailed is how stock's stores begin the text of an error.
func transactionFailed(err error) error { return fmt.Errorf("DB transaction failed: %w", err) }

// undecoded is the error of an entry that Atlantis cannot read.
func undecoded(err error) error { return fmt.Errorf("failed to deserialize current lock: %w", err) }
