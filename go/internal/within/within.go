// Package within returns from calls of the library, which know no context, when a context is done.
package within

import "context"

type answered[T any] struct {
	answer T
	err    error
}

// Ask runs a question beside its caller, and returns its answer, or the context's error if the context is done before.
func Ask[T any](ctx context.Context, question func() (T, error)) (T, error) {
	return ask(ctx, question, func(answered[T]) {})
}

// Open is Ask for what opens something: if nobody waits for that any more, it is closed.
func Open[T interface{ Close() error }](ctx context.Context, open func() (T, error)) (T, error) {
	return ask(ctx, open, func(late answered[T]) {
		if late.err == nil {
			_ = late.answer.Close() // nobody is there to hear of it, and the next opener finds what it leaves
		}
	})
}

// ask hands an answer either to who asked or, once that one has left, to late.
func ask[T any](ctx context.Context, question func() (T, error), late func(answered[T])) (none T, err error) {
	if err := ctx.Err(); err != nil {
		return none, err
	}
	answers := make(chan answered[T])
	go func() {
		answer, err := question()
		got := answered[T]{answer, err}
		select {
		case answers <- got:
		case <-ctx.Done():
			late(got)
		}
	}()
	select {
	case got := <-answers:
		return got.answer, got.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
