package client

import (
	"context"

	"github.com/atlock/atlock/go/internal/within"
)

// Within runs a question, and returns its answer, or the context's error if the context is done before. The library's questions know no
// context: one that is left goes on beside its caller until its own time is over (`locking.timeout`, `redis.timeouts.operation`), and
// holds a thread meanwhile. Ask so for what changes nothing: of a change that is left nobody knows whether it was made.
//
//	health, err := client.Within(ctx, locks.Health)
func Within[T any](ctx context.Context, question func() (T, error)) (T, error) {
	return within.Ask(ctx, question)
}

// OpenContext is [Open], and returns the context's error if the context is done before the stores are open. They are then closed as soon as
// they are open, and opening them again may be [ErrStoreBusy] until then.
func OpenContext(ctx context.Context, config Config, opts ...Option) (*Client, error) {
	return within.Open(ctx, func() (*Client, error) { return Open(config, opts...) })
}
