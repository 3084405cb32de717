package atlock

import (
	"context"

	"github.com/atlock/atlock/go/client"
	"github.com/atlock/atlock/go/internal/within"
)

// Within is [client.Within]: it runs a question that changes nothing, and returns its answer, or the context's error if the context is done
// before.
//
//	health, err := atlock.Within(ctx, database.Health)
func Within[T any](ctx context.Context, question func() (T, error)) (T, error) {
	return client.Within(ctx, question)
}

// OpenContext is [Open], and returns the context's error if the context is done before the stores are open. They are then closed as soon as
// they are open, and opening them again may be [ErrStoreBusy] until then.
func OpenContext(ctx context.Context, config Config, opts ...Option) (*Database, error) {
	return within.Open(ctx, func() (*Database, error) { return Open(config, opts...) })
}
